// The breakpoints of a gdb client.
//
// A software breakpoint is an INT3 in the guest's memory. Clients name it by its linear address.
// The physical address at the time of the insertion is kept, because the guest may change its
// page tables later. A client never sees the INT3: reads show the original byte, and writes change
// the original byte.
//
// Thread rule: the main loop's thread.
// Specification: Intel SDM 3, chapter 18 (debug registers).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "vmm/inspector.h"

namespace wick::debug {

class SoftwareBreakpoints {
 public:
  static constexpr size_t kMax = 1024;

  explicit SoftwareBreakpoints(vmm::Inspector& inspector) : inspector_(inspector) {}

  // Inserts a breakpoint; the page tables of `cpu` translate the address. Fails with EFAULT if the
  // address is not mapped to RAM, and with ENOSPC if there are kMax breakpoints. Does nothing if
  // the breakpoint is inserted already.
  Result<void> insert(uint32_t cpu, uint64_t linear);
  void remove(uint64_t linear);
  void remove_all();

  bool has(uint64_t linear) const { return wanted_.contains(linear); }
  // Returns true if the memory behind `linear` has the INT3 of a breakpoint, perhaps of another
  // linear address that is mapped to the same memory. The page tables of `cpu` translate `linear`.
  bool covers(uint32_t cpu, uint64_t linear) const;
  // Returns true if the INT3 that has stopped `cpu` at `linear` belonged to a breakpoint that has
  // been removed since.
  bool was_removed(uint32_t cpu, uint64_t linear) const;

  // Replaces the INT3 behind `linear` by the original byte until put_back(), so that `cpu` can step
  // over the breakpoint.
  void lift(uint32_t cpu, uint64_t linear);
  void put_back();

  // Must be called after a reset of the machine, which loads the kernel anew. Removes the INT3s
  // that are still in memory, and marks all breakpoints as lost.
  void memory_was_reset();
  // Inserts again those lost breakpoints whose addresses are mapped by now.
  void insert_lost(uint32_t cpu);

  // Replaces each INT3 in `bytes`, a copy of the memory at `address`, by the original byte.
  void show_original(GuestAddress address, std::span<std::byte> bytes) const;
  // Must be called after a client has written `bytes` to `address`: keeps them as the new original
  // bytes of the breakpoints there, and puts the overwritten INT3s back into memory.
  void keep(GuestAddress address, std::span<const std::byte> bytes);

 private:
  struct Patch {
    std::byte original{};
    size_t users = 0;  // the number of breakpoints whose linear addresses are mapped here
  };

  std::byte* host_byte(uint64_t physical) const { return inspector_.memory().find({physical}, 1); }
  void release(uint64_t physical);

  vmm::Inspector& inspector_;
  // The breakpoints: linear to physical address; nullopt if the breakpoint was lost in a reset.
  std::map<uint64_t, std::optional<uint64_t>> wanted_;
  std::map<uint64_t, Patch> patches_;  // the INT3s in memory, by physical address
  std::set<uint64_t> removed_;         // linear addresses of removed breakpoints, at most kMax
  std::optional<uint64_t> lifted_;     // physical address of the INT3 that lift() took out
};

// Breakpoints and watchpoints in the four debug registers. A watched range that is not aligned, or
// is longer than 8 bytes, needs more than one register.
class HardwareBreakpoints {
 public:
  using Kind = vmm::HardwareBreakpoint::Kind;
  struct Wanted {
    Kind kind = Kind::kExecute;
    uint64_t address = 0;
    uint64_t length_bytes = 1;
    auto operator<=>(const Wanted&) const = default;
  };

  explicit HardwareBreakpoints(vmm::Inspector& inspector) : inspector_(inspector) {}

  // Fails with ENOSPC if the four debug registers do not suffice.
  Result<void> insert(const Wanted& wanted);
  Result<void> remove(const Wanted& wanted);
  void remove_all();
  // Returns the breakpoint that bits 0 to 3 of DR6 name; the first one if there are several.
  std::optional<Wanted> hit(uint64_t dr6) const;

 private:
  static constexpr size_t kRegisters = 4;
  struct Slot {
    Wanted wanted;
    vmm::HardwareBreakpoint hardware;
  };
  Result<void> apply(std::vector<Slot> slots);

  vmm::Inspector& inspector_;
  std::vector<Slot> slots_;
};

}  // namespace wick::debug
