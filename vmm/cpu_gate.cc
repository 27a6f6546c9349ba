#include "vmm/cpu_gate.h"

#include <algorithm>

namespace wick::vmm {

void CpuGate::connect(const Vcpus& vcpus, bool stopped) {
  vcpus_ = &vcpus;
  ++board_;
  stopped_.assign(vcpus.size(), false);
  resumes_.assign(vcpus.size(), 0);
  for (uint32_t cpu = 0; cpu < vcpus.size(); ++cpu) {
    const auto report = [this, board = board_](auto function) {
      loop_.post([this, board, alive = std::weak_ptr(alive_), function = std::move(function)] {
        if (!alive.expired() && board == board_) function();
      });
    };
    vcpus[cpu]->on_event({.paused =
                              [this, cpu, report](uint64_t resumes) {
                                report([this, cpu, resumes] { vcpu_paused(cpu, resumes); });
                              },
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
    loop_.post([this, board = board_, alive = std::weak_ptr(alive_)] {
      if (!alive.expired() && board == board_ && all_stopped() && when_stopped_)
        std::exchange(when_stopped_, {})();
    });
}

bool CpuGate::all_stopped() const {
  return std::ranges::all_of(stopped_, [](bool stopped) { return stopped; });
}

void CpuGate::vcpu_paused(uint32_t cpu, uint64_t resumes) {
  if (resumes != resumes_[cpu]) return;
  stopped_[cpu] = true;
  if (all_stopped() && when_stopped_) std::exchange(when_stopped_, {})();
}

void CpuGate::resume(std::span<const CpuRun> which) {
  for (size_t cpu = 0; cpu < stopped_.size(); ++cpu) {
    if (cpu < which.size() && which[cpu] == CpuRun::kStay) continue;
    stopped_[cpu] = false;
    ++resumes_[cpu];
    (*vcpus_)[cpu]->resume();
  }
}

void CpuGate::resume() { resume({}); }

}  // namespace wick::vmm
