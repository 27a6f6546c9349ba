// Gives a FakeMachine vCPUs that execute a few instructions, so that a real gdb has something to
// stop: nop, int3, a short jmp, "mov byte [disp32], imm8" and hlt, which waits for ever.
//
// Thread rule: the loop's thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "tests/fakes/fake_machine.h"

namespace wick::debug {

class ToyCpus {
 public:
  ToyCpus(EventLoop& loop, vmm::FakeMachine& machine) : loop_(loop), machine_(machine) {
    machine_.on_resume_cpus_ = [this] { start(); };
  }

 private:
  using DebugStop = vmm::DebugStop;
  using CpuRun = vmm::CpuRun;
  using BreakKind = vmm::HardwareBreakpoint::Kind;

  void start() {
    resumed_.assign(machine_.cpu_count(), true);  // as RF does, ignores a breakpoint once
    loop_.post([this] { execute(); });
  }

  // Executes until something stops the machine, or for long enough.
  void execute() {
    for (int turn = 0; turn < 1000; ++turn) {
      for (uint32_t cpu = 0; cpu < machine_.cpu_count(); ++cpu) {
        if (machine_.state_ != vmm::RunState::kRunning) return;
        const CpuRun how = machine_.last_run_[cpu];
        if (how != CpuRun::kStay) step(cpu, how == CpuRun::kStep);
      }
    }
  }

  void step(uint32_t cpu, bool single) {
    uint64_t& rip = machine_.registers_[cpu].rip;
    const bool ignore = resumed_[cpu];
    resumed_[cpu] = false;
    if (const uint64_t hit = matching(BreakKind::kExecute, rip); hit != 0 && !ignore)
      return stop({.cpu = cpu, .kind = DebugStop::Kind::kHardware, .address = rip, .dr6 = hit});
    std::array<std::byte, 8> code{};
    if (const auto bytes = machine_.memory().slice({rip}, code.size()); bytes)
      std::memcpy(code.data(), bytes->data(), code.size());
    uint64_t written = 0;
    switch (static_cast<uint8_t>(code[0])) {
      case 0x90:
        rip += 1;
        break;
      case 0xeb:
        rip += 2 + static_cast<uint64_t>(static_cast<int8_t>(code[1]));
        break;
      case 0xcc:
        return stop({.cpu = cpu, .kind = DebugStop::Kind::kBreakpoint, .address = rip});
      case 0xc6: {
        const auto address = load_le<uint32_t>(std::span(code).subspan(3));
        (void)machine_.memory().write(GuestAddress{address}, code[7]);
        written = matching(BreakKind::kWrite, address);
        rip += 8;
        break;
      }
      default:
        break;
    }
    if (written != 0)
      return stop({.cpu = cpu, .kind = DebugStop::Kind::kHardware, .address = rip, .dr6 = written});
    if (single) stop({.cpu = cpu, .kind = DebugStop::Kind::kSingleStep, .address = rip});
  }

  // The bits of DR6 for an access.
  uint64_t matching(BreakKind kind, uint64_t address) const {
    uint64_t bits = 0;
    for (size_t i = 0; i < machine_.breakpoints_.size(); ++i) {
      const auto& each = machine_.breakpoints_[i];
      const bool same = (each.kind == BreakKind::kExecute) == (kind == BreakKind::kExecute);
      if (same && address - each.address < each.length_bytes) bits |= uint64_t{1} << i;
    }
    return bits;
  }

  void stop(const DebugStop& what) { machine_.stop_for_debugger(what); }

  EventLoop& loop_;
  vmm::FakeMachine& machine_;
  std::vector<bool> resumed_;
};

}  // namespace wick::debug
