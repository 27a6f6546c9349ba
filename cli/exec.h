// wick exec: boots a kernel, runs one command on it, and ends with the command's exit status.
//
// Thread rule: the main thread.
#pragma once

#include "base/result.h"
#include "cli/exec_options.h"
#include "cli/options.h"

namespace wick::cli {

// Returns the exit status. Like run(), may be called only once.
Result<int> exec(const ExecCommand& command);

}  // namespace wick::cli
