// Parses the command line, the environment and the config file into plain values. Each option is
// taken as a whole from the first of these sources that has it: a `--disk` on the command line
// replaces all disks of the config file.
//
// The result depends only on the arguments and the config file.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/listener.h"
#include "base/result.h"
#include "cli/exec_options.h"
#include "cli/machines/commands.h"
#include "cli/spec.h"
#include "control/services.h"
#include "hostnet/commands.h"
#include "image/commands.h"
#include "vmm/config.h"

namespace wick::cli {

// What to boot.
struct BootOptions {
  enum class What { kDisk, kCdrom, kKernel, kMenu };

  std::optional<What> what;    // nullopt: by what is given
  std::string firmware = {};   // a path, "bios" or "uefi"; empty: the default
  std::string variables = {};  // the file for UEFI's; empty: the default
};

// wick run, and wick start, which implies `detach`
struct RunOptions {
  vmm::MachineConfig machine;  // an empty name or kernel path means the default
  BootOptions boot;
  std::string location;                     // of an install tree, whose kernel boots
  std::optional<bool> reset_on_reboot;      // nullopt: if the machine boots by firmware
  bool initrd_auto = false;                 // use the initramfs beside the kernel
  std::optional<std::string> kernel_cache;  // empty: none; nullopt: in the user's cache folder
  std::optional<std::chrono::microseconds> timeout;
  StatsForm stats;
  std::string log_level = "warning";  // a level of spdlog
  bool detach = false;                // run in the background
  // Besides those that each machine has in its folder (control/registry.h).
  std::vector<control::ServiceConfig> services;
  std::optional<StreamAddress> gdb;
  bool gdb_wait = false;   // the guest starts when gdb says so
  std::string panic_core;  // the file for a core of a panicked guest; empty: none
  // The options in one form, wherever they came from, to start the machine again: "--cpus=2".
  // Only of machines in the background.
  std::vector<std::string> arguments;
};

// wick exec [OPTIONS] -- COMMAND…
struct ExecCommand {
  RunOptions run;
  ExecOptions exec;
};

// wick attach PATH
struct AttachOptions {
  std::string socket_path;
};

// wick doctor
struct DoctorOptions {};

// --help, --version, --completion, --man
struct PrintText {
  std::string text;
};

using Command = std::variant<RunOptions, ExecCommand, AttachOptions, DoctorOptions,
                             image::ImageCommand, hostnet::NetCommand, MachineCommand, PrintText>;

// The reason why there is no command to execute.
struct CommandError {
  enum class Kind { kUsage, kHost };

  Kind kind = Kind::kUsage;
  Error error;
  std::string help;  // for kUsage: the command that prints help
};

// The value of an environment variable, or nullptr.
using Environment = std::function<const char*(const std::string& name)>;

// `arguments` without the program's name.
std::expected<Command, CommandError> parse_command(const std::vector<std::string>& arguments,
                                                   const Environment& environment);

}  // namespace wick::cli
