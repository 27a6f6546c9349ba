// Runs other programs and waits for them.
#pragma once

#include <span>
#include <string>

#include "base/result.h"

namespace wick {

struct ProcessOutcome {
  int status = 0;  // the exit status; 128+N for signal N
  std::string output;
  std::string errors;  // what the program wrote to stderr
};

// Finds a program in PATH, then in the sbin folders, which a user's PATH often lacks. The
// error names the Debian package to install.
Result<std::string> find_program(const std::string& name);

// Runs a program without a shell; `arguments` start with its name, and `input` is its standard
// input. Its output goes to memfds instead of pipes, so that a daemon which it leaves behind does
// not delay the return.
Result<ProcessOutcome> run_process(std::span<const std::string> arguments,
                                   const std::string& input = {});

// Joins the lines of a program's error output with "; ", printable, for an error message.
std::string one_line(std::string text);

// Returns a command line for a shell, with arguments quoted if necessary.
std::string shell_words(std::span<const std::string> arguments);

}  // namespace wick
