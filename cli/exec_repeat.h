// Runs of wick exec that are repeated, one after the other or several at once, each in a process
// of its own, and the report about them.
//
// Thread rule: the main thread, before the process has another.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace wick::cli {

struct RepeatedRun {
  unsigned number = 0;  // from 1
  int status = 0;       // the exit status; 128+N if signal N killed the process
  std::chrono::duration<double> time{};
};

// Calls `run` in `count` processes, at most `jobs` of them at the same time; what it returns is
// the process's exit status. Signals that would end a run go to all of them, and no more are
// started then. Returns the runs that ended, in the order of their numbers.
Result<std::vector<RepeatedRun>> run_repeatedly(unsigned count, unsigned jobs,
                                                const std::function<int(unsigned number)>& run);

// The exit status of all of them: that of the first that failed.
int status_of(const std::vector<RepeatedRun>& runs);

// A report in the format that CI systems read: a test suite with a test case for each run.
// `names` has the name of each run by its number; one that is not in `runs` is an error: it did not
// run.
std::string junit_report(const std::vector<std::string>& names,
                         const std::vector<RepeatedRun>& runs);

}  // namespace wick::cli
