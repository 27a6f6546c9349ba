// Counts and times a vCPU's exits to user space, for --stats.
//
// Thread rule: the vCPU's thread; add_to() on any thread after the vCPU has stopped.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "base/bus.h"
#include "vmm/run_stats.h"

namespace wick::vmm {

struct VmExit {
  uint64_t address = 0;  // the accessed port or guest physical address
  uint32_t reason = 0;   // one of KVM_EXIT_*
  uint8_t size_bytes = 0;
  bool write = false;
  bool operator==(const VmExit&) const = default;
};

class ExitCounts {
 public:
  // The buses give the names of registers and must outlive this object.
  ExitCounts(const Bus& ports, const Bus& mmio) : ports_(ports), mmio_(mmio) {}

  void start() { started_ = left_ = Clock::now(); }
  // Must be called once per exit: left_guest() when KVM_RUN has returned, count() when the exit has
  // been handled.
  void left_guest() { left_ = Clock::now(); }
  void count(const VmExit& exit);

  void add_to(RunStats& stats) const;

 private:
  using Clock = std::chrono::steady_clock;
  // Reason, device, register, write. The address is not part of the key, because a guest could
  // access any number of addresses that belong to no device, and the map would grow with each.
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
// For example "write of 1 byte to port 0x3f8 (ttyS0 THR)".
std::string describe(const VmExit& exit, const Bus& ports, const Bus& mmio);

}  // namespace wick::vmm
