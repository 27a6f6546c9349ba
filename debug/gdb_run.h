// Runs a machine for gdb, in all-stop mode: either vCPUs run and gdb waits for a stop, or all of
// them are stopped and gdb works.
//
// A vCPU that has stopped at a software breakpoint is stepped over it when gdb resumes it: the
// original byte is put back, that vCPU alone executes one instruction, and the INT3 returns.
// Another vCPU whose next instruction is a breakpoint has not executed it yet, and stops there.
//
// Thread rule: the main loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "debug/gdb_breakpoints.h"
#include "vmm/machine.h"

namespace wick::debug {

// gdb's numbers of signals (its include/gdb/signals.def).
enum class GdbSignal : uint8_t {
  kInterrupt = 2,
  kTrap = 5,
  kAbort = 6,
  kTerminate = 15,
  kStop = 17,
};

struct GdbStop {
  GdbSignal signal = GdbSignal::kTrap;
  uint32_t cpu = 0;
  enum class Reason { kNone, kSoftware, kHardware, kWatch, kAccess };
  Reason reason = Reason::kNone;
  uint64_t address = 0;  // of a watchpoint
};

class GdbRun {
 public:
  // Calls `stopped` each time the machine has stopped after a resume().
  GdbRun(vmm::Machine& machine, std::function<void(const GdbStop&)> stopped);
  GdbRun(const GdbRun&) = delete;
  GdbRun& operator=(const GdbRun&) = delete;

  // Stops the machine, attaches and calls `done` then. A reset of the machine may come first, and
  // `done` is not called; attach() may be called again then.
  void attach(std::function<void(Result<void>)> done);
  // Removes all breakpoints and ends the debugging; `resume` lets the machine run.
  void detach(bool resume);

  SoftwareBreakpoints& software() { return software_; }
  HardwareBreakpoints& hardware() { return hardware_; }

  bool running() const { return running_; }
  // True if gdb has let the machine run since attach(), or found it running.
  bool was_running() const { return was_running_; }

  // One entry per vCPU. Only while not running().
  Result<void> resume(std::vector<vmm::CpuRun> actions);
  // Stops the machine as Ctrl-C does, and calls `done` then. Only while running().
  void interrupt(uint32_t cpu, std::function<void()> done);
  // Between interrupt() and its `done`, also if a breakpoint was faster: no resume() then.
  bool interrupting() const { return interrupting_; }

  // For the machine's events that are not of the debugger's making.
  void on_machine_stopped(uint32_t cpu);
  void on_machine_reset();

 private:
  void on_debug_stop(const vmm::DebugStop& stop);
  // Resumes the vCPUs as actions_ says, after the steps over breakpoints.
  Result<void> go();
  // The next vCPU that has to be stepped over a breakpoint.
  std::optional<uint32_t> next_over();
  bool handle_end_of_step_over(const vmm::DebugStop& stop);
  bool handle_foreign_breakpoint(const vmm::DebugStop& stop);
  GdbStop describe(const vmm::DebugStop& stop) const;
  void report(const GdbStop& stop);
  std::optional<uint64_t> instruction(uint32_t cpu) const;

  vmm::Machine& machine_;
  vmm::Inspector& inspector_;
  const std::function<void(const GdbStop&)> stopped_;
  SoftwareBreakpoints software_;
  HardwareBreakpoints hardware_;

  bool attached_ = false;
  bool running_ = false;
  bool was_running_ = false;
  std::vector<vmm::CpuRun> actions_;
  struct Position {
    std::optional<uint64_t> seen_at;  // where gdb has seen the vCPU stop last
    bool must_step = false;           // over an INT3 that is another address's breakpoint
  };
  std::vector<Position> positions_;  // by vCPU
  std::optional<uint32_t> stepping_over_;
  bool interrupting_ = false;  // Machine::pause() was called, and its callback has not come yet
  std::vector<std::function<void()>> interrupted_;
  // Stops by hardware breakpoints of vCPUs that stopped while the first stop was reported. The
  // CPU does not repeat them.
  std::deque<vmm::DebugStop> pending_;
  // Expires with this object, for calls that the machine makes later.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::debug
