// The guest's memory as gdb sees it: at linear addresses through a vCPU's page tables, or at
// physical ones; without the INT3s of breakpoints. Only RAM.
//
// Thread rule: the main loop's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "debug/gdb_breakpoints.h"
#include "vmm/inspector.h"

namespace wick::debug {

class GdbMemory {
 public:
  GdbMemory(vmm::Inspector& inspector, SoftwareBreakpoints& breakpoints)
      : inspector_(inspector), breakpoints_(breakpoints) {}

  // As QEMU's PhyMemMode: addresses are physical.
  bool physical() const { return physical_; }
  void set_physical(bool physical) { physical_ = physical; }

  // Up to `size_bytes` bytes; fewer where the mapping ends.
  std::string read(uint32_t cpu, uint64_t address, size_t size_bytes) const;
  // Fails, without a change, unless all of the range is mapped.
  Result<void> write(uint32_t cpu, uint64_t address, std::string_view bytes);
  // At a linear address, whatever the mode. False unless all of the range is mapped.
  bool read_linear(uint32_t cpu, uint64_t address, std::span<std::byte> to) const;

 private:
  using Visit = std::function<void(GuestAddress at, std::byte* host, size_t offset, size_t size)>;
  // Calls `visit` for each page's part of the range, up to the first that is not RAM. Returns
  // the number of bytes before that.
  size_t walk(uint32_t cpu, uint64_t address, size_t size_bytes, bool physical,
              const Visit& visit) const;

  vmm::Inspector& inspector_;
  SoftwareBreakpoints& breakpoints_;
  bool physical_ = false;
};

}  // namespace wick::debug
