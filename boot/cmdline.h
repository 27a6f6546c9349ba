// The kernel's command line: what wick puts into it by itself, and its place in
// the guest.
//
// Specification: Linux, Documentation/admin-guide/kernel-parameters.rst.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::boot {

// A virtio-mmio device that the kernel cannot find in ACPI tables
// (virtio_mmio.device=, drivers/virtio/virtio_mmio.c).
struct MmioParameter {
  uint64_t address = 0;
  uint64_t size_bytes = 0;
  uint32_t irq = 0;
};

struct CommandLineParts {
  std::string console = {};      // "ttyS0"; empty: none
  std::string root_device = {};  // "/dev/vda"; empty: there is no disk
  bool root_read_only = false;   // it can only be mounted so
  bool has_initrd = false;       // which finds the root by itself
  std::vector<MmioParameter> mmio = {};
  std::string append = {};  // the user's, last, so that it overrides
};

// Only what the parts imply: console=; root= for a disk, unless there is an
// initrd or the user named a root; panic=-1 reboot=k, so that a dead guest ends
// the run.
std::string make_command_line(const CommandLineParts& parts);

// Writes `text` and its NUL at kCommandLine. Refused when it is longer than
// `limit_bytes`, what the kernel takes without the NUL.
Result<void> write_command_line(const GuestMemory& memory, std::string_view text,
                                uint64_t limit_bytes);

}  // namespace wick::boot
