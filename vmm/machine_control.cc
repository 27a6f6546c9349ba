#include <spdlog/spdlog.h>

#include <algorithm>

#include "vmm/kvm_machine.h"

namespace wick::vmm {

void KvmMachine::press_power_button() {
  if (state_ == RunState::kSuspended) return wake_by(devices::AcpiPm::WakeSource::kPowerButton);
  board_->press_power_button();
  publish({.kind = MachineEvent::Kind::kPowerdown});
}

void KvmMachine::pause(RunState why, std::function<void()> done) {
  // kPaused replaces no stronger reason; the comment below says why.
  if (state_ == RunState::kSuspended && (why != RunState::kPaused || !paused_on_wake_))
    paused_on_wake_ = why;
  if (state_ != RunState::kRunning && !pausing_) {
    // The machine is paused already, but the vCPUs of a new board may not have stopped yet.
    if (done) with_stopped_vcpus(std::move(done));
    return;
  }
  if (done) when_paused_.push_back(std::move(done));
  resume_requested_ = false;
  if (pausing_) {
    // kPaused is the weakest reason: somebody who pauses only to inspect the machine must not
    // replace a reason such as kIoError.
    if (why != RunState::kPaused) pausing_ = why;
    return;
  }
  pausing_ = why;
  gate_.stop([this] { finish_round(kRoundsOfAPause); });
}

// Lets the main loop make `rounds` rounds before the pause is complete, so that it serves the
// queues that the guest kicked before its vCPUs stopped, and no device writes to the guest's memory
// afterwards. In the first round a kick's handler may run before or after this function, so only a
// second round is certain to serve the queue. The third round is for a queue whose handler reached
// the limit of its turn and signalled the kick again.
void KvmMachine::finish_round(int rounds) {
  if (rounds == 0) return vcpus_stopped();
  post([this, rounds, board = boards_] {
    if (board == boards_ && pausing_) finish_round(rounds - 1);
  });
}

void KvmMachine::vcpus_stopped() {
  peripherals_->pause();
  clock_.stop(board_->vm());
  state_ = debug_stops_.empty() ? *pausing_ : RunState::kDebug;
  pausing_.reset();
  hardware_.set_paused(true);
  run_jobs();
  publish({.kind = MachineEvent::Kind::kStop});
  // A function that calls resume() must not resume the machine before the other functions have
  // been called; so resume() waits while telling_ is set.
  telling_ = true;
  for (const auto& done : std::exchange(when_paused_, {})) done();
  telling_ = false;
  for (const DebugStop& stop : std::exchange(debug_stops_, {})) inspector_.report(stop);
  if (std::exchange(resume_requested_, false)) resume();
}

// Stops only the vCPUs, calls the job, and resumes the vCPUs. Devices and clocks go on, and there
// are no STOP and RESUME events. If a pause begins meanwhile, its call of CpuGate::stop() replaces
// the call below, and vcpus_stopped() then runs the jobs.
void KvmMachine::with_stopped_vcpus(std::function<void()> job) {
  if (gate_.all_stopped()) return job();
  jobs_.push_back(std::move(job));
  if (pausing_ || jobs_.size() > 1) return;
  // A debugger may have left some vCPUs stopped; they must stay stopped.
  std::vector<CpuRun> before;
  for (uint32_t cpu = 0; cpu < board_->vcpus().size(); ++cpu)
    before.push_back(gate_.is_stopped(cpu) ? CpuRun::kStay : CpuRun::kContinue);
  gate_.stop([this, before = std::move(before)] {
    run_jobs();
    // The vCPUs stay stopped if a job has requested a pause, or if the machine was started paused.
    if (state_ == RunState::kRunning && !pausing_) gate_.resume(before);
  });
}

void KvmMachine::run_jobs() {
  for (const auto& job : std::exchange(jobs_, {})) job();
}

// Several vCPUs may stop at the same time, so the first stop begins the pause, and vcpus_stopped()
// reports all of them.
void KvmMachine::debug_stop(const DebugStop& stop) {
  debug_stops_.push_back(stop);
  if (state_ == RunState::kRunning && !pausing_) pause(RunState::kDebug, {});
}

void KvmMachine::resume() {
  if (pausing_ || telling_) {
    resume_requested_ = true;
    return;
  }
  if (state_ == RunState::kSuspended) paused_on_wake_.reset();
  if (state_ == RunState::kRunning || state_ == RunState::kSuspended) return;
  if (!gate_.all_stopped()) return with_stopped_vcpus([this] { resume(); });
  resume(std::span<const CpuRun>());
}

void KvmMachine::resume(std::span<const CpuRun> cpus) {
  // A sleeping guest has no running vCPUs to resume. Ending its pause only lets it run when it
  // wakes up.
  if (state_ == RunState::kSuspended) return resume();
  clock_.start(board_->vm(), board_->vcpus());
  // While a debugger only steps, the devices stay paused.
  const bool only_steps = !cpus.empty() && std::ranges::find(cpus, CpuRun::kContinue) == cpus.end();
  if (!only_steps) {
    peripherals_->resume();
    hardware_.set_paused(false);
  }
  state_ = RunState::kRunning;
  // Published before the vCPUs run, because observers that read guest memory must have stopped by
  // then.
  publish({.kind = MachineEvent::Kind::kResume});
  gate_.resume(cpus);
}

void KvmMachine::disk_failed(const std::string& id, const block::Supervised::Failure& failure) {
  const bool stop = failure.action == block::ErrorPolicy::kStop;
  const bool no_space = failure.error.code == ENOSPC;
  hardware_.disk_failed(id, no_space, stop);
  publish({.kind = MachineEvent::Kind::kBlockIoError,
           .device = id,
           .reason = failure.error.message(),
           .operation = failure.write ? "write" : "read",
           .action = stop                                            ? "stop"
                     : failure.action == block::ErrorPolicy::kIgnore ? "ignore"
                                                                     : "report",
           .no_space = no_space});
  if (!stop) return;
  spdlog::error("disk {}: {}; the machine is paused: fix that, then wick resume {}", id,
                failure.error.message(), config_.name);
  pause(RunState::kIoError, {});
}

void KvmMachine::reset() { end_with(Ending::kRebooted, 0, {}, true); }

Result<void> KvmMachine::inject_nmi() {
  for (const auto& vcpu : board_->vcpus()) vcpu->request_nmi();
  return {};
}

Machine::Subscription KvmMachine::subscribe(Observer observer) {
  const int number = next_observer_++;
  observers_[number] = std::move(observer);
  return Subscription([this, number] { observers_.erase(number); });
}

// During the loop an observer may subscribe, or end a subscription, even its own; so the next
// observer is looked up by number after each call.
void KvmMachine::publish(const MachineEvent& event) {
  for (auto next = observers_.begin(); next != observers_.end();) {
    const int number = next->first;
    const Observer observer = next->second;
    observer(event);
    next = observers_.upper_bound(number);
  }
}

// The reasons are those of QMP's ShutdownCause.
void KvmMachine::publish_end() {
  const auto [ending, has_panicked] = [this] {
    const MutexLock lock(mutex_);
    return std::pair(ending_, panicked());
  }();
  if (ending == Ending::kPoweredOff && to_disk_)
    publish({.kind = MachineEvent::Kind::kSuspendDisk});
  MachineEvent event{.kind = MachineEvent::Kind::kShutdown, .guest = true};
  switch (ending) {
    case Ending::kPoweredOff:
    case Ending::kHalted:
    case Ending::kDebugExit:
      event.reason = "guest-shutdown";
      break;
    case Ending::kRebooted:
    case Ending::kTripleFault:
      event.reason = has_panicked ? "guest-panic" : "guest-reset";
      break;
    case Ending::kPanicked:
      event.reason = "guest-panic";
      break;
    case Ending::kQuit:
      event.guest = false;
      event.reason = "host-qmp-quit";
      break;
    case Ending::kSignal:
    case Ending::kTimeout:
      event.guest = false;
      event.reason = "host-signal";
      break;
    case Ending::kHostFailed:
    case Ending::kKvmError:
      event.guest = false;
      event.reason = "host-error";
      break;
  }
  publish(event);
}

}  // namespace wick::vmm
