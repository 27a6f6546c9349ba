// The guest's time, which stands still while the machine is paused: kvmclock and the TSC of
// KVM, and the clocks that wick's chips count by.
//
// Thread rule: now() and real_time() from any thread; the rest on the main loop's thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "vmm/vcpu.h"
#include "vmm/vm.h"

namespace wick::vmm {

// Returns the time of kvmclock in nanoseconds; nullopt if KVM_GET_CLOCK fails.
std::optional<uint64_t> read_kvm_clock(const Vm& vm);
void write_kvm_clock(const Vm& vm, uint64_t time_ns);

class GuestClock {
 public:
  using Vcpus = std::vector<std::unique_ptr<Vcpu>>;

  // Monotonic time, with an arbitrary epoch, without the pauses.
  std::chrono::nanoseconds now() const;
  // The host's time since 1970 in UTC, minus the total time of this machine's pauses.
  std::chrono::nanoseconds real_time() const;

  // stop() does nothing if the clock is stopped already, start() if it runs. The vCPUs must not
  // run.
  void stop(const Vm& vm);
  void start(const Vm& vm, const Vcpus& vcpus);
  // Forgets the saved kvmclock of a stopped clock. Must be called for a new board, whose kvmclock
  // and TSCs begin anew.
  void forget_board() { kvm_clock_.reset(); }

 private:
  std::chrono::nanoseconds paused() const;

  std::atomic<int64_t> paused_ns_{0};      // the sum of the pauses that have ended
  std::atomic<int64_t> stopped_at_ns_{0};  // when the clock was stopped; 0: it runs

  // Saved by stop(): kvmclock of the current board, and the host's TSC at that moment.
  std::optional<uint64_t> kvm_clock_;
  uint64_t host_tsc_ = 0;
};

}  // namespace wick::vmm
