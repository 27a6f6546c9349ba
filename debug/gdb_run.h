// Runs a machine for gdb in all-stop mode: either vCPUs run and gdb waits for a stop, or all vCPUs
// are stopped and gdb sends commands.
//
// When gdb resumes a vCPU that has stopped at a software breakpoint, the vCPU is stepped over it:
// the original byte is put back, that vCPU alone executes one instruction, and the INT3 is inserted
// again. If a vCPU is at a breakpoint but gdb was not told of a stop there, the vCPU is not stepped
// over the breakpoint: it stops there.
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

// gdb's signal numbers (include/gdb/signals.def in gdb's sources).
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
  uint64_t address = 0;  // kWatch, kAccess: the address of the watchpoint
};

class GdbRun {
 public:
  // Calls `stopped` each time the machine has stopped after a resume().
  GdbRun(vmm::Machine& machine, std::function<void(const GdbStop&)> stopped);
  GdbRun(const GdbRun&) = delete;
  GdbRun& operator=(const GdbRun&) = delete;

  // Stops the machine, attaches, and then calls `done`. If the machine is reset before that call,
  // `done` is not called, and attach() may be called again.
  void attach(std::function<void(Result<void>)> done);
  // Removes all breakpoints and ends the debugging. With `resume` the machine then runs.
  void detach(bool resume);

  SoftwareBreakpoints& software() { return software_; }
  HardwareBreakpoints& hardware() { return hardware_; }

  bool running() const { return running_; }
  // Returns true if the machine ran before attach(), or gdb has resumed it since.
  bool was_running() const { return was_running_; }

  // Resumes the machine; `actions` has one entry per vCPU. Fails while running() or interrupting().
  Result<void> resume(std::vector<vmm::CpuRun> actions);
  // Stops the machine as Ctrl-C does, and then calls `done`. The stop is reported for `cpu`.
  void interrupt(uint32_t cpu, std::function<void()> done);
  // Returns true from the call of interrupt() until its `done` is called, even if a breakpoint
  // stops the machine in between.
  bool interrupting() const { return interrupting_; }

  // Must be called for stops and resets of the machine, whoever caused them.
  void on_machine_stopped(uint32_t cpu);
  void on_machine_reset();

 private:
  void on_debug_stop(const vmm::DebugStop& stop);
  // Resumes the vCPUs as actions_ says. If a vCPU must first be stepped over a breakpoint, begins
  // this step instead.
  Result<void> go();
  // Returns the next vCPU that must be stepped over a breakpoint, and lifts that breakpoint.
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
    std::optional<uint64_t> seen_at;  // the address of the vCPU's last stop that gdb was told of
    bool must_step = false;           // must step over the INT3 of another linear address
  };
  std::vector<Position> positions_;  // indexed by vCPU
  std::optional<uint32_t> stepping_over_;
  bool interrupting_ = false;  // Machine::pause() was called, and its callback has not come yet
  std::vector<std::function<void()>> interrupted_;
  // Stops of further vCPUs by hardware breakpoints, while gdb handles the first stop. They are
  // kept, because the CPU does not repeat them.
  std::deque<vmm::DebugStop> pending_;
  // Expires with this object. Functions that the machine calls later check this pointer.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick::debug
