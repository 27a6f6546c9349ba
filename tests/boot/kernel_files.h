// Kernels for tests: valid by default; a test then breaks a field.
#pragma once

#include <asm/bootparam.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/guest_memory.h"
#include "boot/boot.h"
#include "boot/input_file.h"
#include "tests/fakes/guest_ram.h"

namespace wick::boot {

using fakes::memory_of;
using Bytes = std::vector<std::byte>;

constexpr uint64_t kMiB = 1 << 20;

inline Bytes to_bytes(std::string_view text) {
  const auto bytes = as_bytes(text.data(), text.size());
  return {bytes.begin(), bytes.end()};
}

inline Fd memory_file(std::span<const std::byte> bytes) {
  Fd fd(::memfd_create("test", MFD_CLOEXEC));
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) abort();
  return fd;
}

inline InputFile input_file(std::span<const std::byte> bytes, std::string name) {
  return *InputFile::adopt(memory_file(bytes), std::move(name));
}

// The error message of a load, or "" if it succeeded.
template <typename T>
std::string message(const Result<T>& result) {
  return result ? "" : result.error().message();
}

// Decompresses and loads files, as a run does.
inline Result<BootImage> unpack_and_load(const GuestMemory& memory, BootFiles files) {
  return load(memory, TRY(unpack(std::move(files))));
}

// A bzImage of 5 sectors of setup code, followed by `code_bytes` of 0xc3.
struct BzImage {
  explicit BzImage(uint32_t code_bytes = 8192) {
    header.setup_sects = 4;
    header.syssize = code_bytes / 16;
    header.boot_flag = 0xaa55;
    header.jump = 0x6aeb;  // the header ends at 0x202 + 0x6a
    header.header = 0x53726448;
    header.version = 0x020f;
    header.kernel_version = 0x400;  // less 0x200
    header.loadflags = LOADED_HIGH;
    header.code32_start = 0x10'0000;
    header.initrd_addr_max = 0x7fff'ffff;
    header.kernel_alignment = 0x20'0000;
    header.relocatable_kernel = 1;
    header.min_alignment = 21;
    header.xloadflags = XLF_KERNEL_64;
    header.cmdline_size = 2047;
    header.payload_offset = 0x100;
    header.payload_length = 0x1000;
    header.pref_address = 16 * kMiB;
    header.init_size = 8 * kMiB;
  }

  Bytes bytes() const {
    const size_t setup = 512 * (1 + size_t{header.setup_sects == 0 ? 4u : header.setup_sects});
    Bytes image(setup + size_t{16} * header.syssize, std::byte{0xc3});
    std::fill(image.begin(), image.begin() + static_cast<ptrdiff_t>(setup), std::byte{0x90});
    std::memcpy(image.data() + 0x1f1, &header, sizeof(header));
    if (setup > 0x600) std::memcpy(image.data() + 0x600, "6.1.0-test (us)", 16);
    return image;
  }

  BootFiles files(std::string cmdline = "console=ttyS0") const {
    return {input_file(bytes(), "bzImage"), std::nullopt, std::move(cmdline), {0xe0000}};
  }
  BootFiles files_with_initrd(size_t size_bytes) const {
    BootFiles result = files();
    result.initrd = input_file(Bytes(size_bytes, std::byte{'i'}), "initrd");
    return result;
  }

  ::setup_header header{};
};

// An ELF kernel: headers, a page-aligned segment each, and a note.
struct ElfImage {
  struct Segment {
    uint64_t address;
    uint64_t file_bytes;
    uint64_t memory_bytes;
  };

  explicit ElfImage(uint64_t start = 16 * kMiB) {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof(header);
    header.e_ehsize = sizeof(header);
    header.e_phentsize = sizeof(Elf64_Phdr);
    segments = {{start, 4096, 4096}, {start + 2 * kMiB, 4096, 16384}};
    add_note("Xen", 18, Bytes(8, std::byte{0}));
    const uint64_t entry = start + 0x100;
    std::memcpy(notes.data() + 16, &entry, sizeof(entry));
  }

  void add_note(std::string_view owner, uint32_t type, const Bytes& description) {
    const Elf64_Nhdr note{static_cast<uint32_t>(owner.size() + 1),
                          static_cast<uint32_t>(description.size()), type};
    const auto append = [&](std::span<const std::byte> bytes) {
      notes.insert(notes.end(), bytes.begin(), bytes.end());
      notes.resize(align_up(notes.size(), 4));
    };
    append(as_bytes(&note, sizeof(note)));
    append(to_bytes(std::string(owner) + '\0'));
    append(description);
  }

  std::vector<Elf64_Phdr> program_headers() const {
    std::vector<Elf64_Phdr> headers;
    uint64_t offset = 4096;
    for (const Segment& segment : segments) {
      headers.push_back({.p_type = PT_LOAD,
                         .p_flags = PF_R,
                         .p_offset = offset,
                         .p_vaddr = 0,  // as the percpu segment's of a vmlinux
                         .p_paddr = segment.address,
                         .p_filesz = segment.file_bytes,
                         .p_memsz = segment.memory_bytes,
                         .p_align = 4096});
      offset += segment.file_bytes;
    }
    headers.push_back({.p_type = PT_NOTE,
                       .p_flags = PF_R,
                       .p_offset = offset,
                       .p_vaddr = 0,
                       .p_paddr = 0,
                       .p_filesz = notes.size(),
                       .p_memsz = notes.size(),
                       .p_align = 4});
    return headers;
  }

  Bytes bytes() const { return bytes(program_headers()); }

  Bytes bytes(std::vector<Elf64_Phdr> headers) const {
    Elf64_Ehdr first = header;
    if (first.e_phnum == 0) first.e_phnum = static_cast<uint16_t>(headers.size());
    Bytes image(4096);
    std::memcpy(image.data(), &first, sizeof(first));
    std::memcpy(image.data() + sizeof(first), headers.data(), headers.size() * sizeof(Elf64_Phdr));
    for (const Segment& segment : segments) image.resize(image.size() + segment.file_bytes, kCode);
    image.insert(image.end(), notes.begin(), notes.end());
    return image;
  }

  static BootFiles files(const Bytes& image, std::string cmdline = "console=ttyS0") {
    return {input_file(image, "vmlinux"), std::nullopt, std::move(cmdline), {0xe0000}};
  }
  BootFiles files() const { return files(bytes()); }

  static constexpr std::byte kCode{0xc3};
  Elf64_Ehdr header{};
  std::vector<Segment> segments;
  Bytes notes;
};

// A Multiboot kernel: 4 KiB of code with the header in it, loaded at 1 MiB, and a bss of 4 KiB.
struct MultibootImage {
  static constexpr uint32_t kStart = 1 * kMiB;
  static constexpr size_t kFileBytes = 4096;

  // As it is in the file.
  struct Header {
    uint32_t magic = MultibootHeader::kMagic;
    uint32_t flags = MultibootHeader::kAddresses;
    uint32_t checksum = 0;  // 0: the right one
    uint32_t header_addr = kStart + 0x40;
    uint32_t load_addr = kStart;
    uint32_t load_end_addr = kStart + kFileBytes;
    uint32_t bss_end_addr = kStart + 2 * kFileBytes;
    uint32_t entry_addr = kStart + 0x80;
  };

  // A file without a format of its own, which is loaded by the addresses in the header.
  Bytes flat() const {
    Bytes image(kFileBytes, std::byte{0xc3});
    put_header(image, 0x40);
    return image;
  }
  // A 32-bit ELF file, of which the first segment has the header.
  Bytes elf(uint32_t physical = kStart, uint32_t virtual_start = kStart) const {
    Bytes image(2 * kFileBytes, std::byte{0xc3});
    Elf32_Ehdr file{};
    std::memcpy(file.e_ident, ELFMAG, SELFMAG);
    file.e_ident[EI_CLASS] = ELFCLASS32;
    file.e_ident[EI_DATA] = ELFDATA2LSB;
    file.e_ident[EI_VERSION] = EV_CURRENT;
    file.e_type = ET_EXEC;
    file.e_machine = EM_386;
    file.e_entry = virtual_start + 0x80;
    file.e_phoff = sizeof(file);
    file.e_phentsize = sizeof(Elf32_Phdr);
    file.e_phnum = 1;
    std::memcpy(image.data(), &file, sizeof(file));
    const Elf32_Phdr segment{.p_type = PT_LOAD,
                             .p_offset = kFileBytes,
                             .p_vaddr = virtual_start,
                             .p_paddr = physical,
                             .p_filesz = kFileBytes,
                             .p_memsz = 2 * kFileBytes,
                             .p_flags = PF_R | PF_W | PF_X,
                             .p_align = 4096};
    std::memcpy(image.data() + sizeof(file), &segment, sizeof(segment));
    put_header(image, kFileBytes + 0x40);
    return image;
  }
  void put_header(Bytes& image, size_t at) const {
    Header written = header;
    if (written.checksum == 0) written.checksum = -(written.magic + written.flags);
    std::memcpy(image.data() + at, &written, sizeof(written));
  }

  // As open_files() returns them.
  static BootFiles files(const Bytes& image, std::string cmdline = "") {
    BootFiles files{input_file(image, "kernel"), std::nullopt, std::move(cmdline), {0xe0000}};
    files.multiboot = find_multiboot_header(image);
    return files;
  }

  Header header;
};

// What Linux's build compresses into a bzImage: an ELF file with its section headers at the
// end, and relocations.
struct Payload {
  static constexpr uint64_t kStart = 16 * kMiB;
  static constexpr uint64_t kLink = 0xffff'ffff'8000'0000;  // __START_KERNEL_map

  Payload() {
    elf.header.e_entry = kStart + 0x40;
    elf.header.e_shnum = 2;
    elf.header.e_shentsize = sizeof(Elf64_Shdr);
    elf.segments = {{kStart, 8192, 8192}, {kStart + 2 * kMiB, 4096, 3 * kMiB}};
  }

  Bytes bytes() const {
    Bytes image = elf.bytes();
    const uint64_t sections = image.size();
    std::memcpy(image.data() + offsetof(Elf64_Ehdr, e_shoff), &sections, sizeof(sections));
    const auto place = [&](uint64_t offset, uint64_t value) {
      if (4096 + offset + sizeof(value) <= image.size())
        std::memcpy(image.data() + 4096 + offset, &value, sizeof(value));
    };
    place(0x100, kLink + kStart + 0x1234);  // a 64-bit pointer
    place(0x200, kStart + 0x80);            // a 32-bit pointer, of which 4 bytes count
    place(0x300, 0x5000);                   // an offset that per-CPU data have
    image.resize(image.size() + 2 * sizeof(Elf64_Shdr));
    for (const uint32_t word : relocations)
      for (int shift = 0; shift < 32; shift += 8)
        image.push_back(static_cast<std::byte>(word >> shift));
    return image;
  }

  Payload& with_two_lists() {
    relocations = {0, at(0x100), 0, at(0x200)};
    return *this;
  }
  static constexpr uint32_t at(uint64_t offset) {
    return static_cast<uint32_t>(kLink + kStart + offset);
  }

  ElfImage elf{kStart};
  std::vector<uint32_t> relocations = {0, at(0x100), 0, at(0x300), 0, at(0x200)};
};

// A bzImage that contains a compressed payload.
inline Bytes bzimage_with(const Bytes& payload, uint16_t xloadflags = 0) {
  constexpr uint32_t kOffset = 0x280;
  BzImage image(static_cast<uint32_t>(align_up(kOffset + payload.size() + 0x80, 16)));
  image.header.payload_offset = kOffset;
  image.header.payload_length = static_cast<uint32_t>(payload.size());
  image.header.xloadflags |= xloadflags;
  Bytes bytes = image.bytes();
  const size_t setup = 512 * (1 + size_t{image.header.setup_sects});
  std::ranges::copy(payload, bytes.begin() + static_cast<ptrdiff_t>(setup + kOffset));
  return bytes;
}

}  // namespace wick::boot
