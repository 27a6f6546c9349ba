// Other programs, run to their end.
#pragma once

#include <span>
#include <string>

#include "base/result.h"

namespace wick {

struct ProcessOutcome {
  int status = 0;  // the exit status; 128+N for signal N
  std::string output;
  std::string errors;  // what it said on stderr
};

// The path of a program: from PATH, else from the folders of root's programs, which
// a user's PATH lacks. The error names the Debian package.
Result<std::string> find_program(const std::string& name);

// No shell: `arguments` start with the program's name. What it writes goes to
// files in memory, so a daemon that it leaves behind delays nobody.
Result<ProcessOutcome> run_process(std::span<const std::string> arguments,
                                   const std::string& input = {});

// What a program said on stderr, for an error of ours.
std::string one_line(std::string text);

// As a shell takes it: quoted where that is needed.
std::string shell_words(std::span<const std::string> arguments);

}  // namespace wick
