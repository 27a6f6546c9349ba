// How a run ended, for scripts (the exit status) and for users (the text).
#pragma once

#include <string>
#include <string_view>

#include "vmm/machine.h"

namespace wick::cli {

// 0 to 6, or 128 + N for signal N, or what the guest wrote to its debug-exit port, which is odd.
int exit_status(const vmm::RunReport& report);

// The text for stderr at the end of a run: for failures the console's last 20 lines, the
// registers and the last exits; then the hint, if there is one; always, as the last line, the
// name of the ending. The guest's control characters are escaped. Every line ends with a newline.
std::string describe(const vmm::RunReport& report, std::string_view hint = {});

}  // namespace wick::cli
