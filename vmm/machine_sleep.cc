// S3: the guest has saved its state in its memory and stopped its devices. While it sleeps, only
// the main loop runs. When it wakes up, the machine gets a new board with the old memory.

#include <spdlog/spdlog.h>

#include "vmm/kvm_machine.h"

namespace wick::vmm {

// Called on a vCPU's thread when the guest enters S3.
void KvmMachine::suspend() {
  const MutexLock lock(mutex_);
  if (ended_) return;
  ended_ = suspended_ = true;
  main_loop_.stop();
}

bool KvmMachine::take_suspend() {
  const MutexLock lock(mutex_);
  if (!suspended_) return false;
  ended_ = suspended_ = false;
  return true;
}

bool KvmMachine::sleep() {
  if (!board_->can_wake()) {
    end_with(Ending::kTripleFault, 0, "the guest went to sleep (S3) without a waking vector");
    return false;
  }
  woken_by_.reset();
  peripherals_->pause();
  state_ = RunState::kSuspended;
  publish({.kind = MachineEvent::Kind::kSuspend});
  // A pause that had begun is complete now, because no vCPU runs any more.
  paused_on_wake_ = std::exchange(pausing_, std::nullopt);
  run_jobs();
  for (const auto& done : std::exchange(when_paused_, {})) done();
  asleep_ = true;
  // A wake-up event, such as an alarm, may have come before the last vCPU stopped.
  check_wake();
  main_loop_.run();
  asleep_ = false;
  const bool woken = [this] {
    const MutexLock lock(mutex_);
    return !ended_ && woken_by_.has_value();
  }();
  // Published before the guest's memory changes, because observers that read it must have stopped
  // by then.
  if (woken) publish({.kind = MachineEvent::Kind::kWakeup});
  peripherals_->resume();
  return woken;
}

Result<void> KvmMachine::wake() {
  const auto paused = std::exchange(paused_on_wake_, std::nullopt);
  state_ = paused.value_or(RunState::kRunning);
  hardware_.set_paused(paused.has_value());
  // The new board's kvmclock continues from the old one's, because Linux keeps its offset to
  // kvmclock over S3 (arch/x86/kernel/kvmclock.c).
  const auto kvm_clock = read_kvm_clock(board_->vm());
  TRY(power_on(WakeStart{.asleep = board_->sleeping(), .source = *woken_by_}));
  if (kvm_clock) write_kvm_clock(board_->vm(), *kvm_clock);
  if (paused) publish({.kind = MachineEvent::Kind::kStop});
  return {};
}

void KvmMachine::check_wake() {
  if (state_ != RunState::kSuspended) return;
  if (const auto source = board_->pending_wake()) wake_by(*source);
}

void KvmMachine::wake_by(devices::AcpiPm::WakeSource source) {
  if (state_ != RunState::kSuspended || woken_by_) return;
  woken_by_ = source;
  main_loop_.stop();
}

Result<void> KvmMachine::wake_up() {
  if (state_ != RunState::kSuspended)
    return with_hint(fail("the guest does not sleep in a state that it can be woken from"),
                     "the power button wakes a guest from s2idle");
  wake_by(devices::AcpiPm::WakeSource::kOther);
  return {};
}

}  // namespace wick::vmm
