#include "debug/gdb_run.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "debug/gdb_registers.h"

namespace wick::debug {

using vmm::CpuRun;
using vmm::DebugStop;
using vmm::RunState;

namespace {

GdbSignal signal_of(RunState state) {
  if (state == RunState::kIoError) return GdbSignal::kStop;
  if (state == RunState::kPanicked) return GdbSignal::kAbort;
  return GdbSignal::kInterrupt;
}

}  // namespace

GdbRun::GdbRun(vmm::Machine& machine, std::function<void(const GdbStop&)> stopped)
    : machine_(machine),
      inspector_(machine.inspector()),
      stopped_(std::move(stopped)),
      software_(inspector_),
      hardware_(inspector_),
      positions_(inspector_.cpu_count()) {}

void GdbRun::attach(std::function<void(Result<void>)> done) {
  was_running_ = machine_.state() == RunState::kRunning || machine_.state() == RunState::kDebug;
  machine_.pause(RunState::kDebug, [this, done = std::move(done), alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    auto attached =
        inspector_.attach_debugger([this, alive = std::weak_ptr(alive_)](const DebugStop& stop) {
          if (!alive.expired()) on_debug_stop(stop);
        });
    attached_ = attached.has_value();
    done(std::move(attached));
  });
}

void GdbRun::detach(bool resume) {
  alive_ = std::make_shared<bool>(true);  // cancels calls that the machine would still make
  software_.put_back();
  software_.remove_all();
  hardware_.remove_all();
  running_ = false;
  const bool attached = std::exchange(attached_, false);
  if (auto ended = attached ? inspector_.attach_debugger({}) : Result<void>(); !ended)
    spdlog::warn("gdb: cannot end the debugging: {}", ended.error().message());
  // If a pause that attach() has requested is not complete yet, resume() takes effect after it.
  if (resume) machine_.resume();
}

std::optional<uint64_t> GdbRun::instruction(uint32_t cpu) const {
  const auto registers = inspector_.registers(cpu);
  if (!registers) return std::nullopt;
  return instruction_address(*registers);
}

Result<void> GdbRun::resume(std::vector<CpuRun> actions) {
  if (running_ || interrupting_) return fail_errno(EBUSY, "the machine is running");
  actions_ = std::move(actions);
  actions_.resize(inspector_.cpu_count(), CpuRun::kStay);
  if (!pending_.empty()) {
    const DebugStop stop = pending_.front();
    pending_.pop_front();
    running_ = true;
    report(describe(stop));
    return {};
  }
  return go();
}

std::optional<uint32_t> GdbRun::next_over() {
  for (uint32_t cpu = 0; cpu < actions_.size(); ++cpu) {
    if (actions_[cpu] == CpuRun::kStay) continue;
    const auto [at, must] = std::exchange(positions_[cpu], {});
    if (!at && !must) continue;
    const auto now = instruction(cpu);
    if (!now || (!must && *now != *at)) continue;
    if (!software_.covers(cpu, *now)) continue;
    software_.lift(cpu, *now);
    return cpu;
  }
  return std::nullopt;
}

Result<void> GdbRun::go() {
  software_.insert_lost(0);
  // If another client has resumed the machine, the machine runs already.
  if (machine_.state() == RunState::kRunning) {
    running_ = was_running_ = true;
    return {};
  }
  stepping_over_ = next_over();
  std::vector<CpuRun> now = actions_;
  if (stepping_over_) {
    now.assign(actions_.size(), CpuRun::kStay);
    now[*stepping_over_] = CpuRun::kStep;
  }
  running_ = was_running_ = true;
  auto resumed = inspector_.resume_cpus(now);
  if (!resumed) {
    running_ = false;
    software_.put_back();
    stepping_over_.reset();
  }
  return resumed;
}

void GdbRun::on_debug_stop(const DebugStop& stop) {
  if (stop.cpu >= actions_.size() && running_) return;
  if (!running_) {
    // Other kinds of stops need not be kept: the vCPU executes the INT3 or the step again.
    if (stop.kind == DebugStop::Kind::kHardware && pending_.size() < positions_.size())
      pending_.push_back(stop);
    return;
  }
  if (handle_end_of_step_over(stop)) return;
  if (stop.kind == DebugStop::Kind::kBreakpoint && handle_foreign_breakpoint(stop)) return;
  report(describe(stop));
}

// Ends a step over a breakpoint. Returns true if the stop was only that of the step, and the vCPUs
// run on.
bool GdbRun::handle_end_of_step_over(const DebugStop& stop) {
  const auto over = std::exchange(stepping_over_, std::nullopt);
  software_.put_back();
  const bool ends = over == stop.cpu && stop.kind == DebugStop::Kind::kSingleStep;
  if (!ends || actions_[stop.cpu] == CpuRun::kStep) return false;
  if (interrupting_) return true;
  if (!go()) report(describe(stop));
  return true;
}

// Handles an INT3 that is not a breakpoint of gdb at this linear address, and lets the vCPUs run
// on. Returns false if the stop must be reported to gdb.
bool GdbRun::handle_foreign_breakpoint(const DebugStop& stop) {
  if (software_.has(stop.address)) return false;
  if (interrupting_) return true;  // the vCPU executes the INT3 again
  if (software_.covers(stop.cpu, stop.address)) {
    // The INT3 belongs to another linear address that is mapped to the same memory.
    positions_[stop.cpu].must_step = true;
  } else if (!software_.was_removed(stop.cpu, stop.address)) {
    if (auto passed = inspector_.pass_breakpoint(stop.cpu); !passed) {
      spdlog::warn("gdb: vCPU {}: cannot return its INT3 to the guest: {}", stop.cpu,
                   passed.error().message());
      return false;
    }
  }
  if (!go()) report(describe(stop));
  return true;
}

GdbStop GdbRun::describe(const DebugStop& stop) const {
  GdbStop told{.cpu = stop.cpu};
  if (stop.kind == DebugStop::Kind::kBreakpoint) told.reason = GdbStop::Reason::kSoftware;
  if (stop.kind != DebugStop::Kind::kHardware) return told;
  const auto hit = hardware_.hit(stop.dr6);
  if (!hit) return told;
  told.address = hit->address;
  using Kind = HardwareBreakpoints::Kind;
  if (hit->kind == Kind::kExecute) told.reason = GdbStop::Reason::kHardware;
  if (hit->kind == Kind::kWrite) told.reason = GdbStop::Reason::kWatch;
  if (hit->kind == Kind::kAccess) told.reason = GdbStop::Reason::kAccess;
  return told;
}

void GdbRun::report(const GdbStop& stop) {
  running_ = false;
  stepping_over_.reset();
  software_.put_back();
  software_.insert_lost(stop.cpu);
  if (stop.cpu < positions_.size()) positions_[stop.cpu].seen_at = instruction(stop.cpu);
  stopped_(stop);
}

void GdbRun::interrupt(uint32_t cpu, std::function<void()> done) {
  interrupted_.push_back(std::move(done));
  if (std::exchange(interrupting_, true)) return;
  machine_.pause(RunState::kDebug, [this, cpu, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    interrupting_ = false;
    // running_ is false if a breakpoint stopped the machine before the pause did.
    if (running_) report({.signal = GdbSignal::kInterrupt, .cpu = cpu});
    for (const auto& call : std::exchange(interrupted_, {})) call();
  });
}

void GdbRun::on_machine_stopped(uint32_t cpu) {
  if (!running_ || interrupting_ || machine_.state() == RunState::kDebug) return;
  report({.signal = signal_of(machine_.state()), .cpu = cpu});
}

void GdbRun::on_machine_reset() {
  // A reset cancels a pause that has begun, and its callback never comes. So the waiting functions
  // are called here; the client may press Ctrl-C again.
  interrupting_ = false;
  for (const auto& call : std::exchange(interrupted_, {})) call();
  software_.memory_was_reset();
  stepping_over_.reset();
  pending_.clear();
  std::ranges::fill(positions_, Position());
}

}  // namespace wick::debug
