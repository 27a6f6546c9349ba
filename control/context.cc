#include "control/context.h"

#include <atomic>
#include <cerrno>
#include <utility>

namespace wick::control {

using vmm::MachineEvent;
using vmm::RunState;

struct Context::Progress {
  std::atomic<uint64_t> done_bytes = 0, total_bytes = 0;
};

Context::Context(EventLoop& loop, vmm::Machine& machine, Hooks hooks)
    : loop_(loop), machine_(machine), hooks_(std::move(hooks)) {
  subscription_ = machine_.subscribe([this](const MachineEvent& event) { on_event(event); });
}

Context::~Context() = default;

RunState Context::state() const {
  const RunState state = machine_.state();
  return inspecting_ && !stop_wanted_ && state == RunState::kPaused ? RunState::kRunning : state;
}

void Context::on_event(const MachineEvent& event) {
  if (inspecting_ && event.kind == MachineEvent::Kind::kStop && !stop_wanted_) {
    stop_hidden_ = true;
    return;
  }
  if (stop_hidden_ && event.kind == MachineEvent::Kind::kResume) {
    stop_hidden_ = false;
    return;
  }
  publish(event);
}

void Context::publish(const MachineEvent& event) {
  if (event.kind == MachineEvent::Kind::kRxFilterChange &&
      !quiet_filters.insert(event.device).second)
    return;
  // A later card may get the same id.
  if (event.kind == MachineEvent::Kind::kDeviceDeleted) quiet_filters.erase(event.device);
  for (const Observer& observer : observers_) observer(event);
}

Result<void> Context::stop(std::function<void()> done) {
  if (dump_.status == DumpState::Status::kActive)
    return fail("There is a dump in process, please wait.");
  if (inspecting_) {
    stop_wanted_ = true;
    // The pause of while_paused() becomes the pause of this client, so its STOP event is published.
    if (std::exchange(stop_hidden_, false)) publish({.kind = MachineEvent::Kind::kStop});
  }
  ++stopping_;
  machine_.pause(RunState::kPaused, [this, alive = std::weak_ptr(alive_), done = std::move(done)] {
    if (alive.expired()) return;
    --stopping_;
    done();
  });
  return {};
}

Result<void> Context::cont() {
  if (dump_.status == DumpState::Status::kActive)
    return fail("There is a dump in process, please wait.");
  if (inspecting_) {
    // while_paused() resumes the machine when the registers have been read.
    if (std::exchange(stop_wanted_, false)) {
      publish({.kind = MachineEvent::Kind::kResume});
      stop_hidden_ = true;  // so that the later RESUME event is hidden
    }
    return {};
  }
  // resume() does not wake up a guest that sleeps; only system_wakeup does.
  machine_.resume();
  return {};
}

void Context::while_paused(std::function<void()> work) {
  const auto registers = inspector().registers(0);
  if (!inspecting_ && (registers || registers.error().code != EBUSY)) return work();
  waiting_.push_back(std::move(work));
  if (std::exchange(inspecting_, true)) return;
  stop_hidden_ = false;
  // A machine that is stopped or being stopped for another reason is not resumed afterwards.
  stop_wanted_ = stopping_ > 0 || machine_.state() != RunState::kRunning;
  machine_.pause(RunState::kPaused, [this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) run_waiting();
  });
}

void Context::run_waiting() {
  // A function may add more functions to the list.
  while (!waiting_.empty())
    for (const auto& work : std::exchange(waiting_, {})) work();
  // The machine stays stopped if, for example, the guest has panicked meanwhile.
  const bool goes_on = !stop_wanted_ && machine_.state() == RunState::kPaused;
  inspecting_ = stop_wanted_ = false;
  if (goes_on)
    machine_.resume();  // on_event() hides the RESUME event, which may come later
  else if (std::exchange(stop_hidden_, false))
    publish({.kind = MachineEvent::Kind::kStop});
}

DumpState Context::dump_state() const {
  DumpState state = dump_;
  if (state.status == DumpState::Status::kActive) {
    state.done_bytes = progress_->done_bytes;
    state.total_bytes = progress_->total_bytes;
  }
  return state;
}

Result<void> Context::start_dump(const DumpRequest& request,
                                 std::function<void(Result<void>)> done) {
  if (!hooks_.dump) return fail("this machine cannot write dumps");
  if (dump_.status == DumpState::Status::kActive)
    return fail("There is a dump in process, please wait.");
  resume_after_dump_ = state() == RunState::kRunning;
  const auto paused = [this, request, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    hooks_.dump(
        request,
        [progress = progress_](uint64_t done_bytes, uint64_t total_bytes) {
          progress->done_bytes = done_bytes;
          progress->total_bytes = total_bytes;
        },
        [this, alive, &loop = loop_](Result<void> result) {
          loop.post([this, alive, result = std::move(result)] {
            if (!alive.expired()) finish_dump(result);
          });
        });
  };
  // stop() is called before dump_ changes, because stop() fails while a dump is active.
  TRY(stop([] {}));
  dump_ = {.status = DumpState::Status::kActive};
  progress_ = std::make_shared<Progress>();
  dump_done_ = std::move(done);
  machine_.pause(RunState::kPaused, paused);
  return {};
}

void Context::finish_dump(const Result<void>& result) {
  dump_.done_bytes = progress_->done_bytes;
  dump_.total_bytes = progress_->total_bytes;
  dump_.status = result ? DumpState::Status::kCompleted : DumpState::Status::kFailed;
  dump_.error = result ? "" : result.error().message();
  if (resume_after_dump_) (void)cont();
  for (const auto& observer : dump_observers_) observer(dump_);
  if (const auto done = std::exchange(dump_done_, {})) done(result);
}

}  // namespace wick::control
