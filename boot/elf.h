// Loads an ELF kernel that has a PVH note: a vmlinux for x86-64 or 32-bit x86, or any other
// kernel with the 32-bit entry of the Xen HVM direct boot ABI. Segments are loaded at their
// physical addresses.
//
// Specification: System V ABI, "Object Files"; Xen, docs/misc/pvh.pandoc,
// xen/include/public/elfnote.h and arch-x86/hvm/start_info.h.
#pragma once

#include "boot/boot.h"

namespace wick::boot {

// Returns true if the file has a PVH note. A file that is not a valid ELF executable has none.
bool has_pvh_entry(const InputFile& file);

Result<BootImage> load_elf(const GuestMemory& memory, const BootFiles& files);

// The layout of arch-x86/hvm/start_info.h, version 1.
struct HvmStartInfo {
  static constexpr uint32_t kMagic = 0x336e'c578;
  uint32_t magic = kMagic;
  uint32_t version = 1;
  uint32_t flags = 0;
  uint32_t module_count = 0;
  uint64_t modules = 0;  // guest address, like the next three fields; 0: there are no modules
  uint64_t cmdline = 0;
  uint64_t rsdp = 0;
  uint64_t memory_map = 0;
  uint32_t memory_map_count = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(HvmStartInfo) == 56);

struct HvmModule {
  uint64_t address = 0;
  uint64_t size_bytes = 0;
  uint64_t cmdline = 0;
  uint64_t reserved = 0;
};
static_assert(sizeof(HvmModule) == 32);

struct HvmMemoryMapEntry {
  uint64_t start = 0;
  uint64_t size_bytes = 0;
  uint32_t type = 0;  // an address range type of E820
  uint32_t reserved = 0;
};
static_assert(sizeof(HvmMemoryMapEntry) == 24);

}  // namespace wick::boot
