// What a guest or an image says, for people: it cannot drive the terminal that
// shows it.
#pragma once

#include <string>
#include <string_view>

namespace wick {

// `text` with control characters and what is no UTF-8 as \xNN.
std::string printable(std::string_view text, bool keep_tabs = false);

}  // namespace wick
