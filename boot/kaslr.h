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
  uint64_t slide = 0;       // the offset to add to the kernel's virtual addresses
  bool randomized = false;  // true: the kernel shall also randomize its memory map (KASLR_FLAG)
};

struct KaslrRequest {
  GuestAddress start;         // where the kernel is placed without KASLR
  uint64_t linked_start = 0;  // the physical address for which it was linked
  uint64_t memory_bytes = 0;  // the memory that the kernel occupies, its bss included
  uint64_t image_bytes = 0;   // the size of the unpacked payload
  uint64_t alignment = 0;     // a power of two
  GuestMemory::Range initrd;  // empty: there is no initrd
  std::string_view cmdline;
};

// Returns a random place unless the command line has `nokaslr`. The physical address is below 4
// GiB, because wick maps no higher memory for the kernel's first instructions. The physical address
// is not random if a word of the command line begins with memmap= or hugepages, because such a word
// can reserve memory; mem= limits the address. Fails if the host has no random numbers.
Result<KernelPlace> choose_place(const GuestMemory& memory, const KaslrRequest& request);

}  // namespace wick::boot
