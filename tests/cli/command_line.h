// Command lines, as main() parses them.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "cli/options.h"

namespace wick::cli {

using Arguments = std::vector<std::string>;
using Variables = std::map<std::string, std::string>;

inline std::expected<Command, CommandError> parse(const Arguments& arguments,
                                                  const Variables& variables = {}) {
  return parse_command(arguments, [&](const std::string& name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

inline Arguments run_with(const Arguments& more) {
  Arguments arguments = {"run", "-k", "bzImage"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

inline RunOptions run_options(const Arguments& arguments, const Variables& variables = {}) {
  const auto command = parse(arguments, variables);
  if (!command) {
    ADD_FAILURE() << command.error().error.message();
    return {};
  }
  return std::get<RunOptions>(*command);
}

inline std::string usage_error(const Arguments& arguments, const Variables& variables = {}) {
  const auto command = parse(arguments, variables);
  if (command) return "no error";
  EXPECT_EQ(command.error().kind, CommandError::Kind::kUsage);
  return command.error().error.message();
}

inline std::string printed(const Arguments& arguments) {
  const auto command = parse(arguments);
  if (!command) return command.error().error.message();
  return std::get<PrintText>(*command).text;
}

}  // namespace wick::cli
