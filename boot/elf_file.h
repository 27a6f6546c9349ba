// An ELF file that is to be loaded by its program headers at physical addresses. Every number of
// the file is checked against the file and the guest's memory. elf.h loads kernels with a PVH
// note this way, multiboot.h those with a Multiboot header.
//
// Thread rule: any thread.
//
// Specification: System V ABI, "Object Files".
#pragma once

#include <elf.h>

#include <cstdint>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "boot/input_file.h"

namespace wick::boot {

struct ElfFile {
  uint64_t entry = 0;                // e_entry
  std::vector<Elf64_Phdr> segments;  // all program headers, also of a 32-bit file
};

// Reads the headers of an executable for 32-bit or 64-bit x86, which has at most 64 program
// headers.
Result<ElfFile> read_elf_file(const InputFile& file);

// Fails unless the segment's bytes lie in the file.
Result<void> check_in_file(const InputFile& file, const Elf64_Phdr& segment);

// Returns the segments to load, sorted by physical address. Fails unless there is at least one,
// each lies in RAM from 1 MiB to 4 GiB, and no two overlap.
Result<std::vector<Elf64_Phdr>> loadable_segments(const GuestMemory& memory, const InputFile& file,
                                                  std::vector<Elf64_Phdr> segments);

// Returns the range from the first segment to the end of the last. `segments` must come from
// loadable_segments().
GuestMemory::Range range_of(const std::vector<Elf64_Phdr>& segments);

// Copies the segments into `memory`, which must be zero there, because the bss is not written.
Result<void> load_segments(const GuestMemory& memory, const InputFile& file,
                           const std::vector<Elf64_Phdr>& segments);

}  // namespace wick::boot
