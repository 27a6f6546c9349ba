// The options of `wick run`, for the command line, the environment and the config file.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "cli/command_table.h"
#include "cli/options.h"

namespace wick::cli {

// One option of `wick run`, for all sources.
struct RunOption {
  const char* names;  // as in OptionRow
  // As in OptionRow. nullptr: a flag, which is a switch in the environment and the config file.
  const char* value;
  const char* help;
  bool repeats;
  Result<void> (*apply)(RunOptions& options, const std::string& value);

  OptionRow row() const { return {names, value, help}; }
  std::string name() const { return std::string(row().last_name().substr(2)); }
  std::string variable() const {
    std::string variable = "WICK_" + name();
    std::transform(variable.begin(), variable.end(), variable.begin(), [](char c) {
      return c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    });
    return variable;
  }
  // Returns the form of the option's value (cli/form.h), also if the help says only SPEC.
  std::string form() const;
};

std::span<const RunOption> run_options();

}  // namespace wick::cli
