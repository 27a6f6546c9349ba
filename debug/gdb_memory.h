// The guest's RAM as gdb sees it: by linear addresses through a vCPU's page tables, or by physical
// addresses, and without the INT3s of breakpoints.
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

  // Whether addresses are physical (QEMU's PhyMemMode).
  bool physical() const { return physical_; }
  void set_physical(bool physical) { physical_ = physical; }

  // Reads up to `size_bytes` bytes. Returns fewer if the range leaves the mapped RAM.
  std::string read(uint32_t cpu, uint64_t address, size_t size_bytes) const;
  // Writes the bytes. Fails without a change unless the whole range is mapped.
  Result<void> write(uint32_t cpu, uint64_t address, std::string_view bytes);
  // Reads at a linear address, even if physical(). Returns false unless the whole range is mapped.
  bool read_linear(uint32_t cpu, uint64_t address, std::span<std::byte> to) const;

 private:
  using Visit = std::function<void(GuestAddress at, std::byte* host, size_t offset, size_t size)>;
  // Calls `visit` for the part of the range in each page, up to the first page that is not RAM.
  // Returns the number of bytes visited.
  size_t walk(uint32_t cpu, uint64_t address, size_t size_bytes, bool physical,
              const Visit& visit) const;

  vmm::Inspector& inspector_;
  SoftwareBreakpoints& breakpoints_;
  bool physical_ = false;
};

}  // namespace wick::debug
