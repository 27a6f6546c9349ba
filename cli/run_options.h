// The options of `wick run`, for the command line, the environment and the config file.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "cli/options.h"

namespace wick::cli {

// One option of `wick run`, for all sources.
struct RunOption {
  const char* flags;  // for CLI11: "-k,--kernel"
  const char* value;  // the value's name in the help; [VALUE] is optional; nullptr: a flag
  const char* help;   // nullptr: not shown
  bool repeats;
  Result<void> (*apply)(RunOptions& options, const std::string& value);

  std::string name() const { return std::string(std::string_view(flags).substr(dashes() + 2)); }
  std::string variable() const {
    std::string variable = "WICK_" + name();
    std::transform(variable.begin(), variable.end(), variable.begin(), [](char c) {
      return c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    });
    return variable;
  }

 private:
  size_t dashes() const { return std::string_view(flags).find("--"); }
};

std::span<const RunOption> run_options();

}  // namespace wick::cli
