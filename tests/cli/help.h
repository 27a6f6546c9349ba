// What the program's help says, for tests that compare it with something.
#pragma once

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "tests/fakes/shell.h"

namespace wick {

inline std::string output_of(const std::string& command) {
  const auto [status, output] = fakes::run_shell(command);
  EXPECT_EQ(status, 0) << command;
  return output;
}

// The indented lines of `help` below the last of `headings` that it has.
inline std::vector<std::string> lines_below(const std::string& help,
                                            const std::vector<std::string>& headings) {
  std::vector<std::string> found;
  for (const std::string& heading : headings) {
    const size_t start = help.rfind("\n" + heading + ":\n");
    if (start == std::string::npos) continue;
    std::istringstream lines(help.substr(start + heading.size() + 3));
    for (std::string line; std::getline(lines, line) && line.starts_with("  ");)
      found.push_back(line.substr(2));
  }
  return found;
}

// The commands that the help of `command` lists.
inline std::vector<std::string> commands_in(const std::string& help) {
  std::vector<std::string> names;
  for (const std::string& line : lines_below(help, {"Commands", "Machines by name"}))
    if (!line.starts_with(' ')) names.push_back(line.substr(0, line.find(' ')));
  return names;
}

inline std::vector<std::string> examples_in(const std::string& help) {
  return lines_below(help, {"Example", "Examples"});
}

// wick, its commands, and those below them: "wick", "wick image", "wick image create", …
inline std::vector<std::string> all_commands() {
  std::vector<std::string> all = {"wick"};
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string name = all[i];
    for (const std::string& below :
         commands_in(output_of(WICK_BINARY + name.substr(4) + " --help")))
      all.push_back(name + " " + below);
  }
  return all;
}

inline std::string help_of(const std::string& command) {
  return output_of(WICK_BINARY + command.substr(4) + " --help");
}

}  // namespace wick
