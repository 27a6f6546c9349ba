// Chooses random addresses for a kernel (KASLR), as the code of a bzImage does when it unpacks
// the kernel.
//
// Specification: Linux, arch/x86/boot/compressed/kaslr.c.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::boot {

struct KernelPlace {
  GuestAddress start;
  uint64_t slide = 0;       // to add to the kernel's virtual addresses
  bool randomized = false;  // tells the kernel to randomize its memory map, too (KASLR_FLAG)
};

struct KaslrRequest {
  GuestAddress start;         // where the kernel is placed without KASLR
  uint64_t linked_start = 0;  // the physical address for which it was linked
  uint64_t memory_bytes = 0;  // that it occupies, its bss included
  uint64_t image_bytes = 0;   // of the unpacked payload
  uint64_t alignment = 0;     // a power of two
  GuestMemory::Range initrd;  // empty: none
  std::string_view cmdline;
};

// The place is random unless the command line has `nokaslr`. The physical address is below
// 4 GiB, because wick maps no more for the kernel's first instructions. It is not random with
// memmap= or huge pages of 1 GiB on the command line, which reserve memory; mem= limits it.
// Fails if the host has no random numbers.
Result<KernelPlace> choose_place(const GuestMemory& memory, const KaslrRequest& request);

}  // namespace wick::boot
