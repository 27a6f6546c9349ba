// Manual pages, made from the tables of commands and options and from the help.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace CLI {
class App;
}

namespace wick::cli {

// The source of wick(1), or of wick-COMMAND(1) with the commands below it, for man(7).
Result<std::string> manual_page(const CLI::App& wick, std::string_view page);

}  // namespace wick::cli
