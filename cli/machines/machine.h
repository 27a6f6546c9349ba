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

// The timeout of a QMP command. It is long, because a pause must first finish the requests of a
// slow disk.
inline constexpr std::chrono::seconds kCommandTimeout{30};

// Finds a machine in the registry of the calling user.
Result<control::MachineView> find_machine(const std::string& name);
// Finds a machine like find_machine(); fails if the machine does not run.
Result<control::MachineView> find_running(const std::string& name);

Result<control::QmpClient> connect(const control::MachineView& machine,
                                   std::chrono::milliseconds timeout = kCommandTimeout);

// Returns how the machine ended, for instance "the guest powered off", or that it crashed.
std::string ending_text(const control::MachineView& machine);
// Returns the exit status of a run that has ended; 1 if the machine crashed.
int ending_status(const control::MachineView& machine);

// Returns the machine's state, for people and scripts: QMP's state, "starting", "no answer",
// "ended" or "crashed".
std::string state_text(const control::MachineView& machine);

// Returns a local time such as "2026-11-30 12:05".
std::string time_text(int64_t seconds_since_epoch);
// Returns a size such as "512 MiB".
std::string size_text(uint64_t bytes);

}  // namespace wick::cli::machines
