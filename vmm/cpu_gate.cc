#include "vmm/cpu_gate.h"

#include <algorithm>

namespace wick::vmm {

void CpuGate::connect(const Vcpus& vcpus, bool stopped) {
  vcpus_ = &vcpus;
  ++board_;
  stopped_.assign(vcpus.size(), false);
  for (uint32_t cpu = 0; cpu < vcpus.size(); ++cpu) {
    const auto report = [this, board = board_](auto function) {
      loop_.post([this, board, function = std::move(function)] {
        if (board == board_) function();
      });
    };
    vcpus[cpu]->on_event(
        {.paused = [this, cpu, report] { report([this, cpu] { vcpu_paused(cpu); }); },
         .debug_stop =
             [this, report](const DebugStop& stop) {
               report([this, stop] { on_debug_stop_(stop); });
             }});
    if (stopped) vcpus[cpu]->request_pause();
  }
}

void CpuGate::disconnect() {
  ++board_;
  vcpus_ = nullptr;
  stopped_.clear();
  when_stopped_ = {};
}

void CpuGate::stop(std::function<void()> stopped) {
  when_stopped_ = std::move(stopped);
  for (size_t cpu = 0; cpu < stopped_.size(); ++cpu)
    if (!stopped_[cpu]) (*vcpus_)[cpu]->request_pause();
  if (all_stopped())
    loop_.post([this, board = board_] {
      if (board == board_ && all_stopped() && when_stopped_) std::exchange(when_stopped_, {})();
    });
}

bool CpuGate::all_stopped() const {
  return std::ranges::all_of(stopped_, [](bool stopped) { return stopped; });
}

void CpuGate::vcpu_paused(uint32_t cpu) {
  stopped_[cpu] = true;
  if (all_stopped() && when_stopped_) std::exchange(when_stopped_, {})();
}

void CpuGate::resume(std::span<const CpuRun> which) {
  for (size_t cpu = 0; cpu < stopped_.size(); ++cpu) {
    if (cpu < which.size() && which[cpu] == CpuRun::kStay) continue;
    stopped_[cpu] = false;
    (*vcpus_)[cpu]->resume();
  }
}

void CpuGate::resume() { resume({}); }

}  // namespace wick::vmm
