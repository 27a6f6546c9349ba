// Loads a Multiboot kernel: teaching kernels, unikernels such as Unikraft's and Solo5's, and
// kvm-unit-tests. The kernel is loaded by the addresses in its Multiboot header; if the header has
// none, by its ELF program headers. Its modules follow it, each from the start of a page, as GRUB
// and QEMU place them.
//
// The first word of the kernel's command line is the name of its file, as with GRUB and QEMU.
//
// Specification: Multiboot Specification 0.6.96, 3.
#pragma once

#include "boot/boot.h"

namespace wick::boot {

// Opens the modules that `text` names: "FILE args,FILE args". Two commas stand for a comma in a
// name or an argument. An empty text names no modules.
Result<std::vector<BootModule>> open_modules(const std::string& text);

// Loads the kernel and its modules. `files.multiboot` must be set.
Result<BootImage> load_multiboot(const GuestMemory& memory, const BootFiles& files);

// The structures that the kernel gets (3.3). Their fields have the specification's names.
struct MultibootInfo {
  // The value of EAX at the kernel's entry.
  static constexpr uint32_t kBootloaderMagic = 0x2bad'b002;
  // Bits of `flags`, which tell the fields that are valid.
  static constexpr uint32_t kMemory = 1 << 0;
  static constexpr uint32_t kCmdline = 1 << 2;
  static constexpr uint32_t kMods = 1 << 3;
  static constexpr uint32_t kMmap = 1 << 6;
  static constexpr uint32_t kBootLoaderName = 1 << 9;

  uint32_t flags = 0;
  uint32_t mem_lower = 0;  // KiB from address 0
  uint32_t mem_upper = 0;  // KiB from 1 MiB to the first hole
  uint32_t boot_device = 0;
  uint32_t cmdline = 0;
  uint32_t mods_count = 0;
  uint32_t mods_addr = 0;
  uint32_t syms[4] = {};
  uint32_t mmap_length = 0;  // size of the memory map in bytes
  uint32_t mmap_addr = 0;
  uint32_t drives_length = 0;
  uint32_t drives_addr = 0;
  uint32_t config_table = 0;
  uint32_t boot_loader_name = 0;
  uint32_t apm_table = 0;
  uint32_t vbe[4] = {};
};
static_assert(sizeof(MultibootInfo) == 88);

struct MultibootModule {
  uint32_t mod_start = 0;
  uint32_t mod_end = 0;  // the first byte behind the module
  uint32_t string = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(MultibootModule) == 16);

struct __attribute__((packed)) MultibootMmapEntry {
  uint32_t size = 20;  // size of the fields that follow
  uint64_t base_addr = 0;
  uint64_t length = 0;
  uint32_t type = 0;  // 1: usable RAM
};
static_assert(sizeof(MultibootMmapEntry) == 24);

}  // namespace wick::boot
