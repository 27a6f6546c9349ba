// The options of wick exec that wick run does not have. They come from the command line only.
//
// Thread rule: any thread.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/command_table.h"

namespace wick::cli {

struct ExecOptions {
  // A folder of the host that the guest gets.
  struct Folder {
    std::string host;
    std::string guest;  // an absolute path in the guest
    bool read_only = false;
  };

  // A file or folder to copy out of the guest when the command has ended.
  struct Copy {
    std::string guest;  // its path, relative to the command's folder
    std::string host;   // the copy's new name, or a folder for it
  };

  std::vector<std::string> command;      // empty: a shell
  std::string user;                      // NAME or UID[:GID]; empty: the caller
  std::string pwd;                       // empty: the caller's folder
  std::vector<std::string> environment;  // NAME or NAME=VALUE, in addition to the default ones
  std::string root = "/";                // a folder of the host, or "none"
  std::vector<Folder> folders;
  std::vector<std::string> tmpfs;
  std::vector<Copy> copies;
  // The folder that keeps the guest's writes; empty: memory keeps them.
  std::string overlay;
  std::string modules = "auto";      // "auto", "none", or a folder
  std::vector<std::string> kernels;  // more than one: a run for each
  std::vector<std::string> scripts;  // files of the host; more than one: a run for each
  std::string json_path;             // path of the JSON report; empty: none
  std::string junit_path;            // path of the JUnit report; empty: none
  unsigned repeat = 1;               // runs of each kernel and script
  unsigned jobs = 1;                 // runs at the same time
};

// One option of wick exec.
struct ExecOption {
  OptionRow row;
  bool repeats;
  Result<void> (*apply)(ExecOptions& options, const std::string& value);

  std::string name() const { return std::string(row.last_name().substr(2)); }
};

std::span<const ExecOption> exec_options();

// Parses the options. `values` returns the values of an option by its long name; --kernel is one of
// these options. `command` is the part of the command line after "--".
Result<ExecOptions> resolve_exec(
    const std::function<std::vector<std::string>(const std::string& name)>& values,
    std::vector<std::string> command);

}  // namespace wick::cli
