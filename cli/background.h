// Runs a machine in the background: a process of its own session, without a terminal, that others
// find by the machine's name (control/registry.h).
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/options.h"
#include "control/registry.h"

namespace wick::cli {

// Starts the machine and returns when its guest runs, after it has printed "NAME started"; or,
// with the exit status of its run, when it has ended before. What the run writes to standard error
// until then goes to that of the caller, later to the entry's file "log".
//
// Forks, so it must be called before the process has a second thread. In the new process it
// returns at the end of the run.
Result<int> run_in_background(const RunOptions& options);

// Gives the ports that are on stdio a socket in the machine's folder, and the first console a log.
void move_consoles(vmm::MachineConfig& config, const control::MachineEntry& entry);

// The beginning of what the run has written to its log.
std::string log_of(const control::MachineEntry& entry);

}  // namespace wick::cli
