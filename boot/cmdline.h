// The kernel's command line: builds it from what wick adds and what the user gives, and writes
// it into guest memory.
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
  bool root_read_only = false;   // the disk is read-only
  bool has_initrd = false;       // an initrd finds the root itself
  std::vector<MmioParameter> mmio = {};
  std::string append = {};  // the user's parameters; they come last, so that they override
};

// Makes a line of what the parts imply: console=; root= for a disk, unless there is an initrd
// or the user gave a root=; panic=-1 reboot=k, so that a panic ends the run.
std::string make_command_line(const CommandLineParts& parts);

// Writes `text` and a NUL at kCommandLine. Fails if `text` is longer than `limit_bytes`, the
// kernel's limit without the NUL.
Result<void> write_command_line(const GuestMemory& memory, std::string_view text,
                                uint64_t limit_bytes);

}  // namespace wick::boot
