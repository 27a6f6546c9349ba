#include "boot/elf.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "boot/cmdline.h"
#include "boot/initrd.h"
#include "boot/memory_map.h"

namespace wick::boot {

namespace {

constexpr uint16_t kMaxProgramHeaders = 64;
constexpr uint64_t kMaxNotesBytes = 64 << 10;
constexpr uint32_t kXenPhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
// PVH has no field for the maximum length of the command line. Linux reads COMMAND_LINE_SIZE
// bytes, NUL included, and silently drops the rest.
constexpr uint64_t kLinuxCommandLineBytes = 2047;

const char* machine_name(uint16_t machine) {
  switch (machine) {
    case EM_386:
      return "32-bit x86";
    case EM_X86_64:
      return "x86-64";
    case EM_ARM:
      return "32-bit ARM";
    case EM_AARCH64:
      return "arm64";
    case EM_PPC64:
      return "64-bit PowerPC";
    case EM_S390:
      return "s390";
    case EM_RISCV:
      return "RISC-V";
    default:
      return "another machine";
  }
}

// The headers of 32-bit and 64-bit files differ only in the widths of their fields.
template <typename FileHeader, typename ProgramHeader>
Result<std::vector<Elf64_Phdr>> read_program_headers(const InputFile& file) {
  const std::string& name = file.name();
  FileHeader header{};
  if (file.size_bytes() < sizeof(header))
    return fail("{}: {} bytes are too few for an ELF kernel", name, file.size_bytes());
  TRY(file.read(0, std::as_writable_bytes(std::span(&header, 1))));
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
    return with_hint(fail("{}: an ELF file of type {}, not an executable", name, header.e_type),
                     "an object file or a core file is not a kernel");
  if (header.e_phentsize != sizeof(ProgramHeader))
    return fail("{}: damaged ELF header: program headers of {} bytes", name, header.e_phentsize);
  if (header.e_phnum == 0 || header.e_phnum > kMaxProgramHeaders)
    return fail("{}: {} program headers; an ELF kernel has 1 to {}", name, header.e_phnum,
                kMaxProgramHeaders);

  std::vector<ProgramHeader> read(header.e_phnum);
  const auto bytes = std::as_writable_bytes(std::span(read));
  if (header.e_phoff > file.size_bytes() || bytes.size() > file.size_bytes() - header.e_phoff)
    return fail("{}: the file is cut short: its program headers are at {:#x}, its end at {:#x}",
                name, header.e_phoff, file.size_bytes());
  TRY(file.read(header.e_phoff, bytes));
  std::vector<Elf64_Phdr> segments;
  segments.reserve(read.size());
  for (const ProgramHeader& segment : read)
    segments.push_back({.p_type = segment.p_type,
                        .p_flags = segment.p_flags,
                        .p_offset = segment.p_offset,
                        .p_vaddr = segment.p_vaddr,
                        .p_paddr = segment.p_paddr,
                        .p_filesz = segment.p_filesz,
                        .p_memsz = segment.p_memsz,
                        .p_align = segment.p_align});
  return segments;
}

// Reads the fields that are the same in all ELF files, to choose between 32 and 64 bits.
Result<std::vector<Elf64_Phdr>> read_program_headers(const InputFile& file) {
  const std::string& name = file.name();
  Elf32_Ehdr header{};
  if (file.size_bytes() < sizeof(header))
    return fail("{}: {} bytes are too few for an ELF kernel", name, file.size_bytes());
  TRY(file.read(0, std::as_writable_bytes(std::span(&header, 1))));
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return fail("{}: not an ELF file", name);
  if (header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_ident[EI_VERSION] != EV_CURRENT)
    return fail("{}: an ELF file for a big-endian machine, or damaged", name);
  if (header.e_machine != EM_X86_64 && header.e_machine != EM_386)
    return with_hint(fail("{}: an ELF file for {}", name, machine_name(header.e_machine)),
                     "wick runs x86 guests");
  const bool is_64bit = header.e_machine == EM_X86_64;
  if (header.e_ident[EI_CLASS] != (is_64bit ? ELFCLASS64 : ELFCLASS32))
    return fail("{}: damaged ELF header: class {} for {}", name, header.e_ident[EI_CLASS],
                machine_name(header.e_machine));
  return is_64bit ? read_program_headers<Elf64_Ehdr, Elf64_Phdr>(file)
                  : read_program_headers<Elf32_Ehdr, Elf32_Phdr>(file);
}

// An error unless the segment's bytes lie in the file.
Result<void> check_in_file(const InputFile& file, const Elf64_Phdr& segment) {
  const uint64_t size = file.size_bytes();
  if (segment.p_offset <= size && segment.p_filesz <= size - segment.p_offset) return {};
  return with_hint(fail("{}: the file is cut short: a segment has {:#x} bytes at {:#x}, the file "
                        "ends at {:#x}",
                        file.name(), segment.p_filesz, segment.p_offset, size),
                   "copy it again");
}

// The physical address of the entry, if the notes of this segment have it.
std::optional<uint64_t> find_entry(std::span<const std::byte> notes, uint64_t alignment) {
  // Takes `size` bytes and skips their padding; false if fewer are left.
  const auto take = [&](uint64_t size, std::span<const std::byte>& taken) {
    if (size > notes.size()) return false;
    taken = notes.first(size);
    notes = notes.subspan(std::min<uint64_t>(align_up(size, alignment), notes.size()));
    return true;
  };
  std::span<const std::byte> header, name, description;
  while (take(sizeof(Elf64_Nhdr), header)) {
    const auto note = load_le<Elf64_Nhdr>(header);
    if (!take(note.n_namesz, name) || !take(note.n_descsz, description)) break;
    const std::string_view owner(reinterpret_cast<const char*>(name.data()), name.size());
    // Linux writes the entry with the width of its pointers, Xen with 4 bytes.
    if (note.n_type == kXenPhys32Entry && owner == std::string_view("Xen\0", 4) &&
        (description.size() == 4 || description.size() == 8))
      return load_le<uint64_t>(description);
  }
  return std::nullopt;
}

Result<uint64_t> read_entry(const InputFile& file, const std::vector<Elf64_Phdr>& segments) {
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_NOTE) continue;
    TRY(check_in_file(file, segment));
    std::vector<std::byte> notes(std::min<uint64_t>(segment.p_filesz, kMaxNotesBytes));
    TRY(file.read(segment.p_offset, notes));
    if (const auto entry = find_entry(notes, segment.p_align == 8 ? 8 : 4)) return *entry;
  }
  return with_hint(
      fail("{}: an ELF file without a PVH entry (Xen note {})", file.name(), kXenPhys32Entry),
      "build the kernel with CONFIG_PVH=y, or boot its bzImage");
}

// The segments to load, sorted by address; an error unless each is in RAM and none overlap.
Result<std::vector<Elf64_Phdr>> loadable(const GuestMemory& memory, const InputFile& file,
                                         std::vector<Elf64_Phdr> segments) {
  const std::string& name = file.name();
  std::erase_if(segments, [](const Elf64_Phdr& segment) {
    return segment.p_type != PT_LOAD || segment.p_memsz == 0;
  });
  if (segments.empty()) return fail("{}: an ELF file with nothing to load", name);
  std::ranges::sort(segments, {}, &Elf64_Phdr::p_paddr);
  uint64_t previous_end = kHighMemory;
  for (const Elf64_Phdr& segment : segments) {
    TRY(check_in_file(file, segment));
    const uint64_t start = segment.p_paddr;
    const uint64_t size = segment.p_memsz;
    if (segment.p_filesz > size)
      return fail("{}: damaged ELF header: {:#x} bytes for a segment of {:#x}", name,
                  segment.p_filesz, size);
    if (start < kHighMemory)
      return fail("{}: a segment at {:#x}, below 1 MiB, where wick keeps the boot information",
                  name, start);
    if (start >= kAddressableEnd || size > kAddressableEnd - start)
      return fail("{}: a segment of {:#x} bytes at {:#x}, beyond the 4 GiB of a PVH entry", name,
                  size, start);
    if (start < previous_end)
      return fail("{}: segments overlap: one begins at {:#x}, the one before ends at {:#x}", name,
                  start, previous_end);
    previous_end = start + size;
  }
  for (const Elf64_Phdr& segment : segments) {
    if (!memory.slice({segment.p_paddr}, segment.p_memsz))
      return with_hint(
          fail("{}: the kernel has a segment from {:#x} to {:#x}, but the guest has "
               "{} MiB of memory",
               name, segment.p_paddr, segment.p_paddr + segment.p_memsz,
               mebibytes(memory.size_bytes())),
          previous_end <= kLowRamEnd
              ? fmt::format("give at least {} MiB with --memory", mebibytes(previous_end))
              : fmt::format("use another kernel: no guest has memory from {:#x} to 4 GiB",
                            kLowRamEnd));
  }
  return segments;
}

Result<void> write_start_info(const GuestMemory& memory, GuestMemory::Range initrd,
                              GuestAddress rsdp) {
  // All of this goes into one page.
  constexpr GuestAddress kModules = kBootInfo + 64;
  constexpr GuestAddress kMap = kModules + sizeof(HvmModule);

  HvmStartInfo info;
  info.cmdline = kCommandLine.value;
  info.rsdp = rsdp.value;
  if (initrd.size_bytes > 0) {
    info.module_count = 1;
    info.modules = kModules.value;
    TRY(memory.write(kModules, HvmModule{initrd.start.value, initrd.size_bytes, 0, 0}));
  }
  const auto map = memory_map(memory);
  if (map.size() > (kGdt.value - kMap.value) / sizeof(HvmMemoryMapEntry))
    return fail("guest memory: {} ranges do not fit beside the hvm_start_info", map.size());
  info.memory_map = kMap.value;
  for (const MemoryMapEntry& entry : map)
    TRY(memory.write(
        kMap + info.memory_map_count++ * sizeof(HvmMemoryMapEntry),
        HvmMemoryMapEntry{entry.start, entry.size_bytes, static_cast<uint32_t>(entry.type), 0}));
  return memory.write(kBootInfo, info);
}

}  // namespace

Result<BootImage> load_elf(const GuestMemory& memory, const BootFiles& files) {
  TRY(check_low_memory(memory));
  const InputFile& file = files.kernel;
  const auto headers = TRY(read_program_headers(file));
  const uint64_t entry = TRY(read_entry(file, headers));
  const auto segments = TRY(loadable(memory, file, headers));
  const bool entry_is_loaded = std::ranges::any_of(segments, [&](const Elf64_Phdr& segment) {
    return entry >= segment.p_paddr && entry - segment.p_paddr < segment.p_filesz;
  });
  if (!entry_is_loaded) return fail("{}: the PVH entry {:#x} is in no segment", file.name(), entry);

  BootImage loaded;
  const uint64_t start = segments.front().p_paddr;
  loaded.kernel_range = {{start}, segments.back().p_paddr + segments.back().p_memsz - start};
  if (files.initrd) {
    const uint64_t size = files.initrd->size_bytes();
    const auto place = place_initrd(memory, size, kAddressableEnd, loaded.kernel_range);
    const uint64_t needed = start + loaded.kernel_range.size_bytes + size;
    if (!place)
      return with_hint(
          fail("{}: {} MiB and a kernel of {} MiB do not fit into the guest's {} MiB of memory",
               files.initrd->name(), mebibytes(size), mebibytes(loaded.kernel_range.size_bytes),
               mebibytes(memory.size_bytes())),
          needed <= kLowRamEnd
              ? fmt::format("give at least {} MiB with --memory", mebibytes(needed))
              : fmt::format("use a smaller initrd: with a PVH entry it must lie below {} MiB",
                            mebibytes(kLowRamEnd)));
    loaded.initrd_range = *place;
    TRY(load_initrd(memory, *files.initrd, *place));
  }
  TRY(write_command_line(memory, files.cmdline, kLinuxCommandLineBytes));

  for (const Elf64_Phdr& segment : segments) {
    // The rest of p_memsz is zero already.
    const auto to = TRY(memory.slice({segment.p_paddr}, segment.p_filesz));
    TRY(file.read(segment.p_offset, to));
  }
  TRY(write_start_info(memory, loaded.initrd_range, files.rsdp));
  loaded.cpu = TRY(pvh_entry(memory, {entry}, kBootInfo));
  loaded.kernel = "ELF kernel, PVH entry";
  return loaded;
}

}  // namespace wick::boot
