// How a run ended, for scripts (the exit status) and for users (the text).
#pragma once

#include <string>
#include <string_view>

#include "vmm/machine.h"

namespace wick::cli {

// Returns the exit status: 0 to 6, 128 + N for signal N, or what the guest wrote to its debug-exit
// port, which is odd.
int exit_status(const vmm::RunReport& report);

// Returns the text for stderr at the end of a run. After a failure it starts with the console's
// last 20 lines, the registers and the last VM exits. The hint follows, if there is one. The last
// line always says how the run ended. Control characters from the guest are escaped. Every line
// ends with a newline.
std::string describe(const vmm::RunReport& report, std::string_view hint = {});

}  // namespace wick::cli
