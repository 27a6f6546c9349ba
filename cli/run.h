// wick run: builds one machine, runs it to its end, and says how it ended.
#pragma once

#include <chrono>
#include <optional>

#include "base/event_loop.h"
#include "base/result.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "vmm/machine.h"

namespace wick::cli {

// Returns the exit status; an error when the machine could not be built. To be
// called once, before the process has a second thread: see Signals::take().
Result<int> run(const RunOptions& options);

// The steps of run() that tests take one by one.

// Fills in what the user left to us: the newest kernel in `boot_folder`, with its
// initramfs if it has one, or only the initramfs beside the kernel. Warns of
// drivers for this machine that the kernel was built without.
Result<void> choose_kernel(MachineConfig& config, bool initrd_auto,
                           const std::string& boot_folder = "/boot");

// Gives the machine a UUID, and each network card that has none an address. They depend
// on the host and on the machine's name (or else its first disk), the address also on
// the card's place.
void choose_addresses(MachineConfig& config, const std::string& machine_id);

// Machine::run(), ended early by a signal or by the time limit, which counts also
// while the process is stopped.
Result<RunReport> run_to_end(Machine& machine, EventLoop& loop, Signals& signals,
                             std::optional<std::chrono::microseconds> timeout);

}  // namespace wick::cli
