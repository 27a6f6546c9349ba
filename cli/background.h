// Runs a machine in the background: in a process that has its own session and no terminal. Other
// processes find it by the machine's name (control/registry.h).
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/options.h"
#include "control/registry.h"

namespace wick::cli {

// Starts the machine. Returns when its guest runs, after printing "NAME started"; if the run ends
// before that, returns its exit status. Until the call returns, the run's standard error goes to
// the caller's standard error; afterwards it goes to the entry's file "log".
//
// Forks, so it must be called before the process has a second thread. In the new process the call
// returns at the end of the run.
Result<int> run_in_background(const RunOptions& options);

// Adapts the consoles to a machine that runs in the background: a port on stdio gets a Unix socket
// in the machine's folder instead, and the main console gets a log if it has none.
void move_consoles(vmm::MachineConfig& config, const control::MachineEntry& entry);

// Returns the beginning of the entry's file "log".
std::string log_of(const control::MachineEntry& entry);

}  // namespace wick::cli
