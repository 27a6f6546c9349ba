// The output of --stats: a table for users, or JSON for programs.
#pragma once

#include <string>

#include "vmm/run_stats.h"

namespace wick::cli {

// Returns a table as lines, each with a newline. KVM's histograms, and counters with value 0, are
// left out.
std::string stats_table(const vmm::RunStats& stats);

// Returns all statistics as one line of JSON; README.md, "Statistics", lists the keys.
std::string stats_json(const vmm::RunStats& stats);

}  // namespace wick::cli
