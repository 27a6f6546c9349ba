// Completion scripts for shells, made from the tables of commands and options.
#pragma once

#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace wick::cli {

// Returns the script for `shell`, which is bash, zsh or fish.
std::string completion_script(const CLI::App& wick, std::string_view shell);

}  // namespace wick::cli
