// Parses the command line, the environment and the config file into plain values. All values of an
// option come from the first of these sources that has the option: a `--disk` on the command line
// replaces all disks of the config file.
//
// The result depends only on the arguments, the environment, and the files that they name.
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

// The options that say what to boot.
struct BootOptions {
  enum class What { kDisk, kCdrom, kKernel, kMenu };

  std::optional<What> what;    // nullopt: the other options determine it (choose_boot())
  std::string firmware = {};   // a path, "bios" or "uefi"; empty: the default
  std::string variables = {};  // the file for UEFI's variables; empty: the default
};

// The commands wick run and wick start; wick start implies `detach`.
struct RunOptions {
  vmm::MachineConfig machine;  // an empty name or kernel path means the default
  BootOptions boot;
  std::string location;                     // the install tree whose kernel boots; empty: none
  std::optional<bool> reset_on_reboot;      // nullopt: true if the machine boots with firmware
  bool initrd_auto = false;                 // true: use the initramfs beside the kernel
  std::optional<std::string> kernel_cache;  // its folder; empty: none; nullopt: the default
  std::optional<std::chrono::microseconds> timeout;
  StatsForm stats;
  std::string log_level = "warning";  // a level of spdlog
  bool detach = false;                // true: run in the background
  // The services that the user wants, in addition to those in each machine's folder
  // (control/registry.h).
  std::vector<control::ServiceConfig> services;
  std::optional<StreamAddress> gdb;
  bool gdb_wait = false;   // true: the guest starts only when gdb starts it
  std::string panic_core;  // the file for the core of a guest that panics; empty: none
  // The options, from whatever source, as arguments such as "--cpus=2", to start the machine again.
  // Set only for a machine in the background.
  std::vector<std::string> arguments;
};

// The command wick exec [OPTIONS] -- COMMAND…
struct ExecCommand {
  RunOptions run;
  ExecOptions exec;
};

// The command wick attach PATH.
struct AttachOptions {
  std::string socket_path;
};

// The command wick doctor.
struct DoctorOptions {};

// The text that --help, --version, --completion or --man prints.
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
  std::string help;  // only for kUsage: the command line that prints help
};

// Returns the value of an environment variable, or nullptr.
using Environment = std::function<const char*(const std::string& name)>;

// Parses a command line; `arguments` are those after the program's name.
std::expected<Command, CommandError> parse_command(const std::vector<std::string>& arguments,
                                                   const Environment& environment);

}  // namespace wick::cli
