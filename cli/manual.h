// Manual pages, made from the tables of commands and options and from the help.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace CLI {
class App;
}

namespace wick::cli {

// Returns a manual page in man(7) format. `page` is "wick", or "wick-COMMAND" for a command and the
// commands below it. Fails if there is no such page.
Result<std::string> manual_page(const CLI::App& wick, std::string_view page);

}  // namespace wick::cli
