// How a run ended, for scripts (the exit status) and for people (the text).
#pragma once

#include <string>
#include <string_view>

#include "vmm/machine.h"

namespace wick::cli {

// 0 to 6, or 128 + N for signal N.
int exit_status(const RunReport& report);

// What goes to stderr when the run is over: for the endings that someone will
// want to look into, the console's last 20 lines, the registers and the last
// exits; then the hint, if there is one; always, as the last line, the name of
// the ending. Control characters of the guest's are made visible. Every line
// ends with a newline.
std::string describe(const RunReport& report, std::string_view hint = {});

}  // namespace wick::cli
