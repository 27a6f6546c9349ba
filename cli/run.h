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

// What a run in the background (cli/background.h) has besides its options.
struct Background {
  control::MachineEntry entry;
  // Called on the main loop when the guest runs. If it returns false, the run ends.
  std::function<bool()> running;
  bool started = false;  // `running` was called and returned true
  std::string log;       // set if not: what the run wrote to its log
};

// How a run ended, for the caller and for its entry in the registry.
struct RunOutcome {
  int status = 0;
  std::string reason;
};

// What a run does besides its machine: the command of wick exec (cli/exec.h). All calls are made
// on the main thread.
class RunTask {
 public:
  virtual ~RunTask() = default;

  // Changes the configuration before the machine is built.
  virtual Result<void> prepare(vmm::MachineConfig& config, EventLoop& loop) = 0;
  // The machine is built and lives until outcome() returns.
  virtual Result<void> built(vmm::Machine& machine) = 0;
  // True if the guest gets this signal. Otherwise it ends the run.
  virtual bool take_signal(int number) = 0;
  // The run has ended. `machine_outcome` and `text` are those of the same run without a task;
  // `text` is written to standard error.
  virtual RunOutcome outcome(const vmm::RunReport& report, RunOutcome machine_outcome,
                             std::string& text) = 0;
};

// Returns the exit status, or an error if the machine could not be built. May be called only
// once, before the process has a second thread (Signals::take()). `background` and `task` may be
// nullptr: the run is in the foreground, and it only runs the machine. The task is destroyed before
// the loop that it got.
Result<int> run(const RunOptions& options, Background* background = nullptr,
                std::unique_ptr<RunTask> task = nullptr);

// The steps of run(), public for tests.
// Sets the machine's UUID and the missing MAC addresses of its network cards. They depend on the
// host and on the machine's name (or else its first disk), a MAC address also on the index of
// the card.
void choose_addresses(vmm::MachineConfig& config, const std::string& machine_id);

// Runs the machine until it ends, a signal ends it, or the timeout expires. The timeout also
// counts while the process is stopped. `task` may be nullptr.
Result<vmm::RunReport> run_to_end(vmm::Machine& machine, EventLoop& loop, Signals& signals,
                                  std::optional<std::chrono::microseconds> timeout,
                                  RunTask* task = nullptr);

}  // namespace wick::cli
