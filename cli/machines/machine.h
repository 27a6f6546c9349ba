// A running machine, for the commands of cli/machines/.
//
// Thread rule: one thread.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "control/qmp_client.h"
#include "control/registry.h"

namespace wick::cli::machines {

// Long enough for a pause to finish the requests of a slow disk.
inline constexpr std::chrono::seconds kCommandTimeout{30};

// Finds a machine in the caller's registry.
Result<control::MachineView> find_machine(const std::string& name);
// The same; fails if it has ended.
Result<control::MachineView> find_running(const std::string& name);

Result<control::QmpClient> connect(const control::MachineView& machine,
                                   std::chrono::milliseconds timeout = kCommandTimeout);

// "the guest powered off", or how the machine crashed.
std::string ending_text(const control::MachineView& machine);
// The exit status of the run, which has ended; 1 if the machine crashed.
int ending_status(const control::MachineView& machine);

// The state for people and scripts: QMP's, "starting", "no answer", "ended" or "crashed".
std::string state_text(const control::MachineView& machine);

// Local time, "2026-11-30 12:05".
std::string time_text(int64_t seconds_since_epoch);
// "512 MiB"
std::string size_text(uint64_t bytes);

}  // namespace wick::cli::machines
