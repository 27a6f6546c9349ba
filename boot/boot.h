// Loads a kernel so that a guest can start: detects the kind of the kernel file, decompresses
// it if necessary, loads it, its initrd and its command line into guest memory, and returns
// the initial registers of the first vCPU. The caller writes the ACPI tables before
// (boot/acpi.h); the kernel gets their address.
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
  std::string text;  // for the kernel: "FILE args"
};

// Opened and checked, which needs no guest yet.
struct BootFiles {
  InputFile kernel;
  std::optional<InputFile> initrd;
  std::string cmdline;                            // to be set before load()
  GuestAddress rsdp;                              // the same; 0: no ACPI tables
  bool five_level_paging = false;                 // the guest's CPUs have it
  std::optional<UnpackedKernel> unpacked = {};    // what `kernel` has compressed
  std::optional<MultibootHeader> multiboot = {};  // set: a Multiboot kernel, with these modules
  std::vector<BootModule> modules = {};           //   in place of an initrd
};

// Opens the files. Decompresses the kernel, and unpacks it if it is a bzImage whose payload wick
// can start; `cache` keeps what was unpacked for the next run. An empty `initrd_path`: none; with
// a Multiboot kernel it is a list of modules (multiboot.h).
Result<BootFiles> open_files(const std::string& kernel_path, const std::string& initrd_path,
                             const KernelCache& cache);

struct BootImage {
  CpuState cpu;
  std::string kernel;               // for logs: "bzImage, boot protocol 2.15, Linux 6.1.0-18-amd64"
  GuestMemory::Range kernel_range;  // what the kernel may write before it reads its memory map
  GuestMemory::Range initrd_range;  // or that of all modules; empty: none
  std::string warning = {};         // for the user; empty: none
};

// What open_files() does to files that are open.
Result<BootFiles> unpack(BootFiles files, const KernelCache& cache = {});

// Loads the files into memory that is zeroed, except for tables below 1 MiB.
Result<BootImage> load(const GuestMemory& memory, const BootFiles& files);

}  // namespace wick::boot
