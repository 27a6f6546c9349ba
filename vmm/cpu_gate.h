// Stops the vCPUs of a board between two guest instructions, and resumes them. A pause stops and
// resumes all of them; a debugger may resume only some.
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

  // `on_debug_stop` is called on the main loop when a vCPU has stopped at a breakpoint or after a
  // step. The other vCPUs run on.
  CpuGate(EventLoop& main_loop, std::function<void(const DebugStop&)> on_debug_stop)
      : loop_(main_loop), on_debug_stop_(std::move(on_debug_stop)) {}

  // Takes over the vCPUs of a new board. Must be called before they run. With `stopped`, no vCPU
  // enters the guest until it is resumed.
  void connect(const Vcpus& vcpus, bool stopped);
  // Must be called before the board is destroyed. A function that was passed to stop() and not
  // called yet is never called.
  void disconnect();

  // Must be called when the vCPUs' threads have ended: all vCPUs then count as stopped, so that
  // their registers can be read.
  void vcpus_ended() { stopped_.assign(stopped_.size(), true); }

  // Stops all vCPUs and calls `stopped` from the loop when no vCPU runs any more. If an earlier
  // call of stop() still waits, its function is dropped.
  void stop(std::function<void()> stopped);
  bool all_stopped() const;
  bool is_stopped(uint32_t cpu) const { return cpu < stopped_.size() && stopped_[cpu]; }
  // Resumes the vCPUs whose entry in `which` is not kStay. A vCPU without an entry is resumed.
  void resume(std::span<const CpuRun> which);
  void resume();

 private:
  void vcpu_paused(uint32_t cpu, uint64_t resumes);

  EventLoop& loop_;
  const std::function<void(const DebugStop&)> on_debug_stop_;
  const Vcpus* vcpus_ = nullptr;
  uint64_t board_ = 0;  // changes with each board, so that late reports of old vCPUs are ignored
  std::vector<bool> stopped_;
  // The number of times that each vCPU was resumed, indexed by vCPU. If a vCPU reports a pause but
  // was resumed after that pause, the report is ignored.
  std::vector<uint64_t> resumes_;
  std::function<void()> when_stopped_;
  // Expires with the gate. Functions that vCPUs have posted check this, because they may run after
  // the gate is destroyed.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::vmm
