// The options of a run from all sources: command line, environment, config file, defaults.
//
// Thread rule: any thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/options.h"

namespace wick::cli {

struct Sources {
  // The values of an option on the command line, by its long name, or "v" for -v.
  std::function<std::vector<std::string>(const std::string& name)> command_line;
  Environment environment;
  std::string config_path;   // empty: no config file
  std::string config;        // the content of the config file
  RunOptions defaults = {};  // the values of options that no source has
};

// Reads a config file of at most 64 KiB.
Result<std::string> read_config(const std::string& path);

// Takes each option from the first source that has it.
Result<RunOptions> resolve(const Sources& sources);

// Sets the defaults that depend on other options, and checks the machine as a whole.
Result<RunOptions> complete(RunOptions options);

// exec_defaults() returns the defaults of wick exec. complete_exec() does what complete() does, for
// wick exec: no part of the machine may use standard input and output, because they belong to the
// command.
RunOptions exec_defaults();
Result<RunOptions> complete_exec(RunOptions options);

}  // namespace wick::cli
