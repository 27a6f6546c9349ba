// What all clients of a machine share, whether they speak QMP or HMP: the machine itself, and the
// state that must be kept between two requests.
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
  std::string error = {};  // of kFailed
};

struct SpareDisk {
  vmm::DiskConfig config;
  bool file_only = false;  // the protocol node, without a format
  std::string used_by;     // the device's id
};

struct SpareNet {
  vmm::NetConfig config;
  std::vector<std::string> forwards;
  std::string used_by;
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

  // The machine's state for clients. A pause by while_paused() counts as running.
  vmm::RunState state() const;

  // Calls `done` when the machine is paused. An error while a dump is written.
  Result<void> stop(std::function<void()> done);
  Result<void> cont();

  // Calls `work` with the registers readable. A running machine is paused for it and then goes
  // on, unless stop() was called meanwhile; clients see no event of it.
  void while_paused(std::function<void()> work);

  // Begins a dump, which pauses a running machine. `done` is called at its end, unless this fails.
  Result<void> start_dump(const DumpRequest& request, std::function<void(Result<void>)> done);
  DumpState dump_state() const;

  // Calls the observer for each event of the machine, except the STOP and RESUME of while_paused().
  using Observer = std::function<void(const vmm::MachineEvent&)>;
  void observe_events(Observer observer) { observers_.push_back(std::move(observer)); }
  void observe_dumps(std::function<void(const DumpState&)> observer) {
    dump_observers_.push_back(std::move(observer));
  }

  // Host halves of devices that device_add refers to (blockdev-add, netdev_add), by their names.
  static constexpr size_t kMaxSpares = 64;  // of each kind: bounds what a client can add
  std::map<std::string, SpareDisk> spare_disks;
  std::map<std::string, SpareNet> spare_nets;
  // Cards whose NIC_RX_FILTER_CHANGED waits until query-rx-filter has been called.
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

  // while_paused()
  std::vector<std::function<void()>> waiting_;
  bool inspecting_ = false;
  uint32_t stopping_ = 0;  // stop() calls that have not been answered
  bool stop_wanted_ = false;
  bool stop_hidden_ = false;  // a STOP event that has not been published

  DumpState dump_;
  std::shared_ptr<Progress> progress_;
  bool resume_after_dump_ = false;
  std::function<void(Result<void>)> dump_done_;

  // Expires with the Context, for functions that are posted to the loop.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  vmm::Machine::Subscription subscription_;
};

}  // namespace wick::control
