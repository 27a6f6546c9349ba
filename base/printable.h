// Makes text from guests and images safe to show on a terminal.
#pragma once

#include <string>
#include <string_view>

namespace wick {

// `text` with control characters and invalid UTF-8 escaped as \xNN.
std::string printable(std::string_view text, bool keep_tabs = false);

}  // namespace wick
