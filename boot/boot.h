// From a kernel's file to a guest that can start: finds out what kind of kernel
// it is, decompresses it if need be, loads it, its initrd and its command line
// into guest memory, and says with which registers the first vCPU begins. The
// ACPI tables are not loaded here: they come first (boot/acpi.h), and their
// address is told to the kernel.
//
// Thread rule: before the first vCPU runs.
#pragma once

#include <optional>
#include <string>

#include "base/guest_memory.h"
#include "base/result.h"
#include "boot/cpu_state.h"
#include "boot/input_file.h"

namespace wick::boot {

struct BootRequest {
  std::string kernel_path = {};
  std::string initrd_path = {};  // empty: none
  std::string cmdline = {};
  GuestAddress rsdp = {};  // 0: no ACPI tables
};

struct BootImage {
  CpuState cpu;
  std::string kernel;               // for logs: "bzImage, boot protocol 2.15, Linux 6.1.0-18-amd64"
  GuestMemory::Range kernel_range;  // all that the kernel writes before it looks at its map
  GuestMemory::Range initrd_range;  // of no bytes: none
};

Result<BootImage> load(const GuestMemory& memory, const BootRequest& request);

// The same with files that are open already.
struct BootFiles {
  InputFile kernel;
  std::optional<InputFile> initrd;
  std::string cmdline;
  GuestAddress rsdp;
};

Result<BootImage> load(const GuestMemory& memory, BootFiles files);

}  // namespace wick::boot
