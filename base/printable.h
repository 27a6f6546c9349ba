// Makes text from guests and images safe to show on a terminal.
#pragma once

#include <string>
#include <string_view>

namespace wick {

// Returns `text` with each byte of control characters and of invalid UTF-8 escaped as \xNN.
std::string printable(std::string_view text, bool keep_tabs = false);

}  // namespace wick
