// The state that all clients of a machine share, whether they speak QMP or HMP: the machine itself,
// and what must be kept between two requests.
//
// Thread rule: the main loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "control/hooks.h"
#include "vmm/machine.h"

namespace wick::control {

// The state of dump-guest-memory: at most one dump is written at a time.
struct DumpState {
  enum class Status { kNone, kActive, kCompleted, kFailed };
  Status status = Status::kNone;
  uint64_t done_bytes = 0, total_bytes = 0;
  std::string error = {};  // why the dump failed; only for kFailed
};

// The host's half of a disk: a block node of blockdev-add.
struct SpareDisk {
  vmm::DiskConfig config;
  bool file_only = false;  // true: a protocol node, which has no format
  std::string used_by;     // the id of the device that last used this disk; empty: none yet
};

// The host's half of a network card, made by netdev_add.
struct SpareNet {
  vmm::NetConfig config;
  std::vector<std::string> forwards;
  std::string used_by;  // the id of the device that last used this card; empty: none yet
};

class Context {
 public:
  Context(EventLoop& loop, vmm::Machine& machine, Hooks hooks);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  vmm::Machine& machine() const { return machine_; }
  vmm::Hardware& hardware() const { return machine_.hardware(); }
  vmm::Inspector& inspector() const { return machine_.inspector(); }
  EventLoop& loop() const { return loop_; }
  const Hooks& hooks() const { return hooks_; }

  // Returns the machine's state as clients see it: a pause by while_paused() counts as running.
  vmm::RunState state() const;

  // Pauses the machine, and calls `done` when it is paused. stop() and cont() fail while a dump is
  // written.
  Result<void> stop(std::function<void()> done);
  Result<void> cont();

  // Calls `work` when the registers can be read. A running machine is paused for this, and goes on
  // afterwards, unless stop() was called meanwhile. Clients get no event of this pause.
  void while_paused(std::function<void()> work);

  // Begins a dump, which pauses a running machine. Fails if the dump cannot begin; otherwise calls
  // `done` at the dump's end.
  Result<void> start_dump(const DumpRequest& request, std::function<void(Result<void>)> done);
  DumpState dump_state() const;

  // Calls the observer for each event of the machine, except the STOP and RESUME of while_paused().
  using Observer = std::function<void(const vmm::MachineEvent&)>;
  void observe_events(Observer observer) { observers_.push_back(std::move(observer)); }
  void observe_dumps(std::function<void(const DumpState&)> observer) {
    dump_observers_.push_back(std::move(observer));
  }

  // The host's halves of devices by their names: made by blockdev-add and netdev_add, used by
  // device_add. There are at most kMaxSpares of each kind.
  static constexpr size_t kMaxSpares = 64;  // bounds what a client can add
  std::map<std::string, SpareDisk> spare_disks;
  std::map<std::string, SpareNet> spare_nets;
  // The cards that have sent NIC_RX_FILTER_CHANGED. They do not send this event again until
  // query-rx-filter has been called.
  std::set<std::string> quiet_filters;

 private:
  struct Progress;
  void on_event(const vmm::MachineEvent& event);
  void publish(const vmm::MachineEvent& event);
  void run_waiting();
  void finish_dump(const Result<void>& result);

  EventLoop& loop_;
  vmm::Machine& machine_;
  const Hooks hooks_;
  std::vector<Observer> observers_;
  std::vector<std::function<void(const DumpState&)>> dump_observers_;

  // The state of while_paused().
  std::vector<std::function<void()>> waiting_;  // the functions to call when the machine is paused
  // True: the machine is paused, or being paused, for the waiting functions.
  bool inspecting_ = false;
  uint32_t stopping_ = 0;     // stop() calls that have not been answered
  bool stop_wanted_ = false;  // true: a client wants the machine to stay paused
  bool stop_hidden_ = false;  // true: a STOP event was hidden, so its RESUME must be hidden, too

  DumpState dump_;
  std::shared_ptr<Progress> progress_;
  bool resume_after_dump_ = false;
  std::function<void(Result<void>)> dump_done_;

  // Expires with the Context. Functions that are posted to the loop check it.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  vmm::Machine::Subscription subscription_;
};

}  // namespace wick::control
