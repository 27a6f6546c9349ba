// The breakpoints of a gdb client.
//
// A software breakpoint is an INT3 in the guest's memory. Clients name it by its linear address;
// the physical address at the time of the insertion is kept, because the guest may change its
// page tables later. A client never sees the INT3: reads show the original byte, writes change
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

  // Through the page tables of `cpu`. EFAULT if the address is not mapped to RAM, ENOSPC if
  // there are too many. Inserting again what is there is no error.
  Result<void> insert(uint32_t cpu, uint64_t linear);
  void remove(uint64_t linear);
  void remove_all();

  bool has(uint64_t linear) const { return wanted_.contains(linear); }
  // True if the INT3 at `linear`, seen by `cpu`, is in memory because of any breakpoint. Another
  // linear address may lead to the same memory.
  bool covers(uint32_t cpu, uint64_t linear) const;
  // True if an INT3 that `cpu` reports at `linear` was a breakpoint that is removed by now.
  bool was_removed(uint32_t cpu, uint64_t linear) const;

  // Takes the INT3 behind `linear` out of memory until put_back(), for a step over it.
  void lift(uint32_t cpu, uint64_t linear);
  void put_back();

  // A reset has loaded the kernel anew. Takes out the INT3s that it has left in memory.
  void memory_was_reset();
  // Inserts those that a reset removed, where their addresses are mapped by now.
  void insert_lost(uint32_t cpu);

  // Replaces each INT3 in `bytes`, a copy of the memory at `address`, by the original byte.
  void show_original(GuestAddress address, std::span<std::byte> bytes) const;
  // Changes original bytes to those of `bytes`, which were written to `address`, and puts the
  // INT3s back into memory.
  void keep(GuestAddress address, std::span<const std::byte> bytes);

 private:
  struct Patch {
    std::byte original{};
    size_t users = 0;  // the number of linear addresses that lead here
  };

  std::byte* host_byte(uint64_t physical) const { return inspector_.memory().find({physical}, 1); }
  void release(uint64_t physical);

  vmm::Inspector& inspector_;
  // By linear address; the physical one, or nullopt if a reset has removed the INT3.
  std::map<uint64_t, std::optional<uint64_t>> wanted_;
  std::map<uint64_t, Patch> patches_;  // by physical address
  std::set<uint64_t> removed_;         // linear addresses, at most kMax
  std::optional<uint64_t> lifted_;     // physical
};

// Breakpoints and watchpoints in the debug registers. A watched range that is not aligned or
// longer than 8 bytes takes more than one of the four.
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

  // ENOSPC if the four debug registers do not suffice.
  Result<void> insert(const Wanted& wanted);
  Result<void> remove(const Wanted& wanted);
  void remove_all();
  // The breakpoint that is named by bits 0 to 3 of DR6.
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
