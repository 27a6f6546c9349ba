// The command line, the environment and the config file, made into plain
// values. For each option the first of these that has it wins, as a whole: a
// `--disk` on the command line replaces all disks of the config file.
//
// Everything here is a function of its arguments and of the config file;
// nothing is started.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "cli/net/commands.h"
#include "cli/spec.h"
#include "image/commands.h"
#include "vmm/config.h"

namespace wick::cli {

// wick run
struct RunOptions {
  MachineConfig machine;     // an empty name or kernel path: the default
  bool initrd_auto = false;  // the one beside the kernel
  std::optional<std::chrono::microseconds> timeout;
  StatsForm stats;
  std::string log_level = "warning";  // as spdlog names them
};

// wick attach PATH
struct AttachOptions {
  std::string socket_path;
};

// wick doctor
struct DoctorOptions {};

// --help, --version
struct PrintText {
  std::string text;
};

using Command = std::variant<RunOptions, AttachOptions, DoctorOptions, image::ImageCommand,
                             NetCommand, PrintText>;

// Why there is no command to carry out.
struct CommandError {
  enum class Kind { kUsage, kHost };

  Kind kind = Kind::kUsage;
  Error error;
  std::string help;  // for kUsage: the command that says more
};

// The value of an environment variable, or nullptr.
using Environment = std::function<const char*(const std::string& name)>;

// `arguments` without the program's name.
std::expected<Command, CommandError> parse_command(const std::vector<std::string>& arguments,
                                                   const Environment& environment);

}  // namespace wick::cli
