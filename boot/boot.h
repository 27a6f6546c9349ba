// Loads a kernel so that a guest can start: detects the kind of the kernel file, decompresses
// it if necessary, loads it, its initrd and its command line into guest memory, and returns
// the initial registers of the first vCPU. The caller writes the ACPI tables before
// (boot/acpi.h); the kernel gets their address.
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
  GuestMemory::Range kernel_range;  // what the kernel may write before it reads its memory map
  GuestMemory::Range initrd_range;  // empty: none
};

Result<BootImage> load(const GuestMemory& memory, const BootRequest& request);

// As BootRequest, but with files that are already open.
struct BootFiles {
  InputFile kernel;
  std::optional<InputFile> initrd;
  std::string cmdline;
  GuestAddress rsdp;
};

Result<BootImage> load(const GuestMemory& memory, BootFiles files);

}  // namespace wick::boot
