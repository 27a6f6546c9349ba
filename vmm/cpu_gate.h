// Stops the vCPUs of a board between two instructions, and lets them go on: all of them for a
// pause, or some for a debugger.
//
// A vCPU may be waiting for the main loop (the reset of a device), so the main loop must not wait
// for a vCPU: stop() returns at once and calls back.
//
// Thread rule: the main loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "vmm/inspector.h"
#include "vmm/vcpu.h"

namespace wick::vmm {

class CpuGate {
 public:
  using Vcpus = std::vector<std::unique_ptr<Vcpu>>;

  // `on_debug_stop` is called on the main loop when a vCPU stops by itself; the others run on.
  CpuGate(EventLoop& main_loop, std::function<void(const DebugStop&)> on_debug_stop)
      : loop_(main_loop), on_debug_stop_(std::move(on_debug_stop)) {}

  // Before the vCPUs of a new board run. With `stopped` none of them enters the guest until it
  // is resumed.
  void connect(const Vcpus& vcpus, bool stopped);
  // Before the board is destroyed. Forgets a stop() that has not called back.
  void disconnect();

  // The vCPUs' threads have ended, so the registers can be read.
  void vcpus_ended() { stopped_.assign(stopped_.size(), true); }

  // Calls `stopped` from the loop when no vCPU runs any more. One call at a time.
  void stop(std::function<void()> stopped);
  bool all_stopped() const;
  bool is_stopped(uint32_t cpu) const { return cpu < stopped_.size() && stopped_[cpu]; }
  // `which` has an entry per vCPU; those that are kStay remain stopped.
  void resume(std::span<const CpuRun> which);
  void resume();

 private:
  void vcpu_paused(uint32_t cpu, uint64_t resumes);

  EventLoop& loop_;
  const std::function<void(const DebugStop&)> on_debug_stop_;
  const Vcpus* vcpus_ = nullptr;
  uint64_t board_ = 0;  // counts connect(), so that a late report of an old vCPU is not counted
  std::vector<bool> stopped_;
  std::vector<uint64_t> resumes_;  // by vCPU; a report from before the last one is void
  std::function<void()> when_stopped_;
  // Expires with the gate, for what vCPUs post.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::vmm
