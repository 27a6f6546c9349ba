#include "boot/elf_file.h"

#include <algorithm>
#include <cstring>

#include "boot/memory_map.h"

namespace wick::boot {

namespace {

constexpr uint16_t kMaxProgramHeaders = 64;

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

// Reads the headers of a 32-bit or a 64-bit file, which differ only in the widths of their fields.
template <typename FileHeader, typename ProgramHeader>
Result<ElfFile> read_headers(const InputFile& file) {
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
  ElfFile elf{.entry = header.e_entry, .segments = {}};
  elf.segments.reserve(read.size());
  for (const ProgramHeader& segment : read)
    elf.segments.push_back({.p_type = segment.p_type,
                            .p_flags = segment.p_flags,
                            .p_offset = segment.p_offset,
                            .p_vaddr = segment.p_vaddr,
                            .p_paddr = segment.p_paddr,
                            .p_filesz = segment.p_filesz,
                            .p_memsz = segment.p_memsz,
                            .p_align = segment.p_align});
  return elf;
}

}  // namespace

// First reads the fields that are at the same place in all ELF files, to choose between 32 and 64
// bits.
Result<ElfFile> read_elf_file(const InputFile& file) {
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
  return is_64bit ? read_headers<Elf64_Ehdr, Elf64_Phdr>(file)
                  : read_headers<Elf32_Ehdr, Elf32_Phdr>(file);
}

Result<void> check_in_file(const InputFile& file, const Elf64_Phdr& segment) {
  const uint64_t size = file.size_bytes();
  if (segment.p_offset <= size && segment.p_filesz <= size - segment.p_offset) return {};
  return with_hint(fail("{}: the file is cut short: a segment has {:#x} bytes at {:#x}, the file "
                        "ends at {:#x}",
                        file.name(), segment.p_filesz, segment.p_offset, size),
                   "copy it again");
}

Result<std::vector<Elf64_Phdr>> loadable_segments(const GuestMemory& memory, const InputFile& file,
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
      return with_hint(
          fail("{}: a segment at {:#x}, below 1 MiB, where wick keeps the boot information", name,
               start),
          segment.p_offset == 0
              ? "it has the ELF headers; link with ld -n, which does not load them"
              : "link the kernel to run at 1 MiB or above");
    if (start >= kAddressableEnd || size > kAddressableEnd - start)
      return fail("{}: a segment of {:#x} bytes at {:#x}, beyond the 4 GiB of a 32-bit entry", name,
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

GuestMemory::Range range_of(const std::vector<Elf64_Phdr>& segments) {
  const uint64_t start = segments.front().p_paddr;
  return {{start}, segments.back().p_paddr + segments.back().p_memsz - start};
}

Result<void> load_segments(const GuestMemory& memory, const InputFile& file,
                           const std::vector<Elf64_Phdr>& segments) {
  for (const Elf64_Phdr& segment : segments) {
    // The bytes between p_filesz and p_memsz are zero already.
    const auto to = TRY(memory.slice({segment.p_paddr}, segment.p_filesz));
    TRY(file.read(segment.p_offset, to));
  }
  return {};
}

}  // namespace wick::boot
