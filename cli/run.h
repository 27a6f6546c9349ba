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

// Returns the exit status, or an error if the machine could not be built. May be called only
// once, before the process has a second thread (Signals::take()). nullptr: in the foreground.
Result<int> run(const RunOptions& options, Background* background = nullptr);

// The steps of run(), public for tests.
// Sets the machine's UUID and the missing MAC addresses of its network cards. They depend on the
// host and on the machine's name (or else its first disk), a MAC address also on the index of
// the card.
void choose_addresses(vmm::MachineConfig& config, const std::string& machine_id);

// Runs the machine until it ends, a signal ends it, or the timeout expires. The timeout also
// counts while the process is stopped.
Result<vmm::RunReport> run_to_end(vmm::Machine& machine, EventLoop& loop, Signals& signals,
                                  std::optional<std::chrono::microseconds> timeout);

}  // namespace wick::cli
