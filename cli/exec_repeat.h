// Repeats runs of wick exec, one after the other or several at once, each in a process of its own,
// and reports about them.
//
// Thread rule: the main thread, before the process has a second thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace wick::cli {

struct RepeatedRun {
  unsigned number = 0;  // the number of the run, from 1 on
  int status = 0;       // the exit status; 128+N if signal N killed the process
  std::chrono::duration<double> time{};
  std::string error = {};  // why the machine ended before its command; empty: the command ended
};

// Executes the run `number`, and returns its exit status. May set `error`, see RepeatedRun.
using OneRun = std::function<int(unsigned number, std::string& error)>;

// Calls `run` in `count` processes, at most `jobs` of them at the same time. A process's exit
// status is what `run` returns. A signal that would end a run goes to all processes, and no further
// process is started after it. Returns the runs that ended, in the order of their numbers.
Result<std::vector<RepeatedRun>> run_repeatedly(unsigned count, unsigned jobs, const OneRun& run);

// Returns the exit status of all runs together: that of the first run that failed, or 0.
int status_of(const std::vector<RepeatedRun>& runs);

// Returns a report in the JUnit format, which CI systems read: a test suite with a test case for
// each run. `names` has the name of each run, in the order of the numbers. A run that is not in
// `runs` did not happen; the report counts it as an error, as it does a machine that ended before
// its command, which is no verdict of a test.
std::string junit_report(const std::vector<std::string>& names,
                         const std::vector<RepeatedRun>& runs);

}  // namespace wick::cli
