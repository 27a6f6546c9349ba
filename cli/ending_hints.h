// What to do about a run that ended badly, where its console leaves no doubt.
#pragma once

#include <string>
#include <string_view>

#include "vmm/config.h"
#include "vmm/machine.h"

namespace wick::cli {

// One line without its newline; empty where nothing is certain, or all is well.
// `cmdline` is the kernel's command line.
std::string ending_hint(const RunReport& report, const MachineConfig& config,
                        std::string_view cmdline);

}  // namespace wick::cli
