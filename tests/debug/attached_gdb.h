// A client of the gdb server whose guest has code and is stopped.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "tests/debug/gdb_client.h"

namespace wick::debug {

inline constexpr uint64_t kCode = 0x1000;

// A client whose guest has one-byte instructions at kCode.
struct Attached : GdbClient {
  explicit Attached(uint32_t cpus = 2) : GdbClient({}, cpus) {
    poke(kCode, std::string(64, '\x90'));
    ask("QStartNoAckMode");
    ask("qSupported:swbreak+;hwbreak+");
    for (auto& cpu : machine_.registers_) cpu.rip = kCode;
  }
  void breakpoint_stop(uint32_t cpu, uint64_t address) {
    machine_.registers_[cpu].rip = address;
    stop({.cpu = cpu, .kind = vmm::DebugStop::Kind::kBreakpoint, .address = address});
  }
  // Sets a breakpoint and lets the guest run until `cpu` hits it.
  void hit_breakpoint(uint32_t cpu, uint64_t address) {
    ask(fmt::format("Z0,{:x},1", address));
    ask("vCont;c");
    breakpoint_stop(cpu, address);
    answers();
  }
  void step_stop(uint32_t cpu, uint64_t address) {
    machine_.registers_[cpu].rip = address;
    stop({.cpu = cpu, .kind = vmm::DebugStop::Kind::kSingleStep, .address = address});
  }
  const std::vector<vmm::CpuRun>& run() const { return machine_.last_run_; }
};

}  // namespace wick::debug
