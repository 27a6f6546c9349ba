// What --stats prints: a table for people, or JSON for programs.
#pragma once

#include <string>

#include "vmm/run_stats.h"

namespace wick::cli {

// Lines, each with a newline. KVM's counters that are zero, and its histograms,
// are left out.
std::string stats_table(const RunStats& stats);

// All of it, as one line; README.md, "Statistics", has the keys.
std::string stats_json(const RunStats& stats);

}  // namespace wick::cli
