// wick run: builds one machine, runs it to its end, and reports how it ended.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "control/registry.h"
#include "vmm/machine.h"

namespace wick::cli {

// The additional data of a run in the background (cli/background.h).
struct Background {
  control::MachineEntry entry;
  // Called on the main loop when the guest runs. If it returns false, the run ends.
  std::function<bool()> running;
  bool started = false;  // `running` was called and returned true
  std::string log;       // only if not `started`: what the run wrote to its log
};

// How a run ended, for the caller of run() and for the run's entry in the registry.
struct RunOutcome {
  int status = 0;
  std::string reason;
};

// A task of a run, in addition to its machine: the command of wick exec (cli/exec.h). All functions
// are called on the main thread.
class RunTask {
 public:
  virtual ~RunTask() = default;

  // Changes the configuration before the machine is built.
  virtual Result<void> prepare(vmm::MachineConfig& config, EventLoop& loop) = 0;
  // Called when the machine has been built. `machine` lives until outcome() returns.
  virtual Result<void> built(vmm::Machine& machine) = 0;
  // Called for a signal that would end the run. Returns true if the guest gets the signal;
  // otherwise the signal ends the run.
  virtual bool take_signal(int number) = 0;
  // Called when the run has ended. On entry, `machine_outcome` and `text` are what the run would
  // report if it had no task. The task returns its own outcome and may change `text`, which is then
  // written to standard error.
  virtual RunOutcome outcome(const vmm::RunReport& report, RunOutcome machine_outcome,
                             std::string& text) = 0;
};

// Runs a machine. Returns the exit status; fails if the machine could not be built. May be called
// only once, before the process has a second thread (Signals::take()). `background` is nullptr for
// a run in the foreground. `task` is nullptr for a run that only runs its machine; the task is
// destroyed before the loop that it got.
Result<int> run(const RunOptions& options, Background* background = nullptr,
                std::unique_ptr<RunTask> task = nullptr);

// The steps of run(), public for tests.

// Sets the machine's UUID and the missing MAC addresses of its network cards. All are derived from
// the host and the machine's name (without a name, its first disk; without a disk, the process ID).
// Each MAC address also depends on the card's index.
void choose_addresses(vmm::MachineConfig& config, const std::string& machine_id);

// Runs the machine until it ends, a signal ends it, or the timeout expires. The timeout also
// counts while the process is stopped. `task` may be nullptr.
Result<vmm::RunReport> run_to_end(vmm::Machine& machine, EventLoop& loop, Signals& signals,
                                  std::optional<std::chrono::microseconds> timeout,
                                  RunTask* task = nullptr);

}  // namespace wick::cli
