// Advice about a failed run whose cause is clear from its console.
#pragma once

#include <string>
#include <string_view>

#include "vmm/config.h"
#include "vmm/machine.h"

namespace wick::cli {

// Returns the advice as one line without a newline; empty if the cause is not clear or the run did
// not fail. `cmdline` is the kernel's command line.
std::string ending_hint(const vmm::RunReport& report, const vmm::MachineConfig& config,
                        std::string_view cmdline);

}  // namespace wick::cli
