// The options that wick exec has besides those of wick run. They are taken from the command line
// only.
//
// Thread rule: none.
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
  // A folder of the host in the guest.
  struct Folder {
    std::string host;
    std::string guest;  // an absolute path
    bool read_only = false;
  };

  // What is copied out of the guest in the end.
  struct Copy {
    std::string guest;  // a file or folder, from the command's folder
    std::string host;   // its new name, or a folder that it is put into
  };

  std::vector<std::string> command;      // empty: a shell
  std::string user;                      // NAME or UID[:GID]; empty: the caller
  std::string pwd;                       // empty: the caller's folder
  std::vector<std::string> environment;  // NAME or NAME=VALUE, beside the default ones
  std::string root = "/";                // a folder of the host, or "none"
  std::vector<Folder> folders;
  std::vector<std::string> tmpfs;
  std::vector<Copy> copies;
  std::string overlay;               // the folder that keeps what was written; empty: memory
  std::string modules = "auto";      // or "none", or a folder
  std::vector<std::string> kernels;  // more than one: a run for each
  std::vector<std::string> scripts;  // files of the host; more than one: a run for each
  std::string json_path;             // empty: none
  std::string junit_path;            // empty: none
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

// `values` has the values of an option by its long name, --kernel among them. `command` is what
// stands behind "--".
Result<ExecOptions> resolve_exec(
    const std::function<std::vector<std::string>(const std::string& name)>& values,
    std::vector<std::string> command);

}  // namespace wick::cli
