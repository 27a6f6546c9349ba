#include "vmm/guest_clock.h"

#include <sys/ioctl.h>
#include <x86intrin.h>

namespace wick::vmm {

using std::chrono::nanoseconds;

namespace {

int64_t steady_ns() {
  return std::chrono::duration_cast<nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Sets the guest's TSC back by `ticks`. On hosts with Linux before 5.16, vCPUs have no such
// attribute: the guest's TSC then includes the pause, which does not disturb Linux guests that use
// kvmclock.
void move_tsc_back(const Vcpu& vcpu, uint64_t ticks) {
  uint64_t offset = 0;
  kvm_device_attr attribute{.flags = 0,
                            .group = KVM_VCPU_TSC_CTRL,
                            .attr = KVM_VCPU_TSC_OFFSET,
                            .addr = reinterpret_cast<uint64_t>(&offset)};
  if (::ioctl(vcpu.fd(), KVM_GET_DEVICE_ATTR, &attribute) != 0) return;
  offset -= ticks;
  (void)::ioctl(vcpu.fd(), KVM_SET_DEVICE_ATTR, &attribute);
}

}  // namespace

nanoseconds GuestClock::paused() const {
  const int64_t stopped_at = stopped_at_ns_.load();
  return nanoseconds(paused_ns_.load() + (stopped_at == 0 ? 0 : steady_ns() - stopped_at));
}

std::optional<uint64_t> read_kvm_clock(const Vm& vm) {
  kvm_clock_data clock{};
  if (::ioctl(vm.fd(), KVM_GET_CLOCK, &clock) != 0) return std::nullopt;
  return clock.clock;
}

void write_kvm_clock(const Vm& vm, uint64_t time_ns) {
  kvm_clock_data clock{};
  clock.clock = time_ns;
  (void)::ioctl(vm.fd(), KVM_SET_CLOCK, &clock);
}

nanoseconds GuestClock::now() const { return nanoseconds(steady_ns()) - paused(); }

nanoseconds GuestClock::real_time() const {
  return std::chrono::system_clock::now().time_since_epoch() - paused();
}

void GuestClock::stop(const Vm& vm) {
  if (stopped_at_ns_.load() != 0) return;
  stopped_at_ns_ = steady_ns();
  host_tsc_ = __rdtsc();
  kvm_clock_ = read_kvm_clock(vm);
}

void GuestClock::start(const Vm& vm, const Vcpus& vcpus) {
  const int64_t stopped_at = stopped_at_ns_.load();
  if (stopped_at == 0) return;
  if (kvm_clock_) {
    const uint64_t ticks = __rdtsc() - host_tsc_;
    for (const auto& vcpu : vcpus) move_tsc_back(*vcpu, ticks);
    write_kvm_clock(vm, *kvm_clock_);
    // KVM_KVMCLOCK_CTRL tells the guest that it was stopped, so that its watchdogs do not count the
    // pause. The ioctl fails, which is harmless, if the guest does not use kvmclock.
    for (const auto& vcpu : vcpus) (void)::ioctl(vcpu->fd(), KVM_KVMCLOCK_CTRL, 0);
    kvm_clock_.reset();
  }
  paused_ns_ += steady_ns() - stopped_at;
  stopped_at_ns_ = 0;
}

}  // namespace wick::vmm
