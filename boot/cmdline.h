// The kernel's command line: builds it from what wick adds and what the user gives, and writes
// it into guest memory.
//
// Specification: Linux, Documentation/admin-guide/kernel-parameters.rst.
#pragma once

#include <algorithm>
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
  std::string console = {};      // "ttyS0"; empty: no serial console
  bool screen = false;           // true: the kernel also shows its messages on the screen
  std::string root_device = {};  // "/dev/vda"; empty: there is no disk
  bool root_read_only = false;   // the disk is read-only
  bool has_initrd = false;       // true: there is an initrd, which finds the root itself
  bool kaslr = true;             // false: Linux runs at the addresses for which it was linked
  std::vector<MmioParameter> mmio = {};
  std::string append = {};  // the user's parameters; they come last, so that they override
};

// Returns the command line. It has console= for each console; root= for a disk, unless there is an
// initrd or the user gave a root=; panic=-1 reboot=k, so that a panic ends the run; nokaslr, if
// `kaslr` is false; the virtio-mmio devices; and the user's parameters.
std::string make_command_line(const CommandLineParts& parts);

// Calls `function` with each word of the line, as the code of a bzImage reads it before the kernel
// proper runs: quotes have no meaning (arch/x86/boot/cmdline.c).
template <typename Function>
void for_each_word(std::string_view line, Function function) {
  constexpr std::string_view kSpaces = " \t\n\v\f\r";
  while (true) {
    line.remove_prefix(std::min(line.find_first_not_of(kSpaces), line.size()));
    if (line.empty()) return;
    const std::string_view word = line.substr(0, line.find_first_of(kSpaces));
    function(word);
    line.remove_prefix(word.size());
  }
}

// Returns true if one of the words of for_each_word() is `word`.
bool has_word(std::string_view line, std::string_view word);

// Writes `text` and a NUL at kCommandLine. Fails if `text` is longer than `limit_bytes`, the
// kernel's limit without the NUL.
Result<void> write_command_line(const GuestMemory& memory, std::string_view text,
                                uint64_t limit_bytes);

}  // namespace wick::boot
