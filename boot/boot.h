// Loads a kernel so that a guest can start: detects the kind of the kernel file, decompresses it if
// necessary, loads it, its initrd and its command line into guest memory, and returns the initial
// registers of the first vCPU. Before load(), the caller writes the ACPI tables (boot/acpi.h),
// whose address the kernel gets.
//
// Thread rule: open_files() on any thread, load() before the first vCPU runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "boot/cpu_state.h"
#include "boot/input_file.h"
#include "boot/kernel_cache.h"
#include "boot/multiboot_header.h"
#include "boot/unpacked_kernel.h"

namespace wick::boot {

// A file that a Multiboot loader puts into memory beside the kernel.
struct BootModule {
  InputFile file;
  std::string text;  // what the kernel gets: "FILE args"
};

// The files of a boot, opened and checked. They do not depend on a guest.
struct BootFiles {
  InputFile kernel;
  std::optional<InputFile> initrd;
  std::string cmdline;             // the caller sets it before load()
  GuestAddress rsdp;               // the caller sets it before load(); 0: there are no ACPI tables
  bool five_level_paging = false;  // true: the guest's CPUs support it
  std::optional<UnpackedKernel> unpacked = {};    // the kernel inside the bzImage `kernel`
  std::optional<MultibootHeader> multiboot = {};  // set: `kernel` is a Multiboot kernel
  // Files of a Multiboot kernel, in place of `initrd`.
  std::vector<BootModule> modules = {};
};

// Opens the files. Decompresses the kernel, and unpacks it if it is a bzImage whose payload wick
// can start; `cache` keeps the unpacked kernel for the next run. An empty `initrd_path` means that
// there is no initrd; for a Multiboot kernel `initrd_path` is a list of modules (multiboot.h).
Result<BootFiles> open_files(const std::string& kernel_path, const std::string& initrd_path,
                             const KernelCache& cache);

struct BootImage {
  CpuState cpu;
  std::string kernel;  // for logs: "bzImage, boot protocol 2.15, Linux 6.1.0-18-amd64"
  // The memory that the kernel may write before it reads its memory map.
  GuestMemory::Range kernel_range;
  // The range of the initrd or of all modules; empty: there are none.
  GuestMemory::Range initrd_range;
  std::string warning = {};  // a warning for the user; empty: none
};

// Does the second part of open_files() with files that are open: decompresses and unpacks the
// kernel.
Result<BootFiles> unpack(BootFiles files, const KernelCache& cache = {});

// Loads the files into `memory`, which must be zero, except for the tables below 1 MiB.
Result<BootImage> load(const GuestMemory& memory, const BootFiles& files);

}  // namespace wick::boot
