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
// before that, returns its exit status. What the run writes to standard error until then goes to
// the caller's standard error, and later to the entry's file "log".
//
// Forks, so it must be called before the process has a second thread. In the new process it returns
// at the end of the run.
Result<int> run_in_background(const RunOptions& options);

// Moves the consoles of a machine in the background: ports on stdio get a socket in the machine's
// folder, and the first console gets a log.
void move_consoles(vmm::MachineConfig& config, const control::MachineEntry& entry);

// Returns the beginning of the entry's file "log".
std::string log_of(const control::MachineEntry& entry);

}  // namespace wick::cli
