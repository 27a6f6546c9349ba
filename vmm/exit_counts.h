// For --stats: where a vCPU's exits to user space went, and what they cost
// there.
//
// Thread rule: the vCPU's thread; add_to() when it has stopped.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "base/bus.h"
#include "vmm/run_stats.h"

namespace wick {

struct VmExit {
  uint64_t address = 0;  // the port or the guest physical address accessed
  uint32_t reason = 0;   // KVM_EXIT_*
  uint8_t size_bytes = 0;
  bool write = false;
  bool operator==(const VmExit&) const = default;
};

class ExitCounts {
 public:
  // They name what was accessed, and must outlive it.
  ExitCounts(const Bus& ports, const Bus& mmio) : ports_(ports), mmio_(mmio) {}

  void start() { started_ = left_ = Clock::now(); }
  // In this order, once per exit: the second when it has been dealt with.
  void left_guest() { left_ = Clock::now(); }
  void count(const VmExit& exit);

  void add_to(RunStats& stats) const;

 private:
  using Clock = std::chrono::steady_clock;
  // Reason, device, register, write. Not the address: what nobody answers is one
  // row, as a guest could touch any number of pages.
  using Kind = std::tuple<uint32_t, std::string_view, std::string_view, bool>;
  struct Cost {
    uint64_t count = 0;
    Clock::duration user{};
  };

  const Bus& ports_;
  const Bus& mmio_;
  Clock::time_point started_;
  Clock::time_point left_;
  std::map<Kind, Cost> costs_;
};

// "io", "mmio", ...: the name of a KVM_EXIT_ constant in lower case.
std::string exit_reason_name(uint32_t reason);
// Such as "write of 1 byte to port 0x3f8 (ttyS0 THR)".
std::string describe(const VmExit& exit, const Bus& ports, const Bus& mmio);

}  // namespace wick
