// The options of a run from all sources: command line, environment, config file, defaults.
//
// Thread rule: none.
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
  std::string config;        // its content
  RunOptions defaults = {};  // for options that no source has
};

// The content of a config file, of at most 64 KiB.
Result<std::string> read_config(const std::string& path);

// Takes each option from the first source that has it.
Result<RunOptions> resolve(const Sources& sources);

// Sets the defaults that depend on other options, and checks the machine as a whole.
Result<RunOptions> complete(RunOptions options);

// The defaults of wick exec, and what complete() does for it: the command has the streams.
RunOptions exec_defaults();
Result<RunOptions> complete_exec(RunOptions options);

}  // namespace wick::cli
