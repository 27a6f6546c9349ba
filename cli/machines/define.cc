// The commands wick define and wick undefine.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/replace_file.h"
#include "cli/machines/commands.h"
#include "cli/machines/definitions.h"
#include "cli/options.h"
#include "cli/sources.h"
#include "control/registry.h"

namespace wick::cli::machines {

namespace {

Result<std::string> own_definitions_folder() {
  std::string folder = definitions_folder();
  if (folder.empty())
    return with_hint(fail("there is no folder for definitions"),
                     "set HOME or XDG_CONFIG_HOME to an absolute path");
  return folder;
}

}  // namespace

Result<int> execute(const Define& command) {
  const std::string folder = TRY(own_definitions_folder());
  const std::string text = TRY(read_config(command.file));
  // The environment must not hide a mistake of the file, or add one.
  const auto parsed = parse_command({"run", "--detach", "--config", command.file},
                                    [](const std::string&) { return nullptr; });
  if (!parsed) return std::unexpected(parsed.error().error);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail_errno(error.value(), "{}: cannot make the folder", folder);
  TRY(replace_file(definition_path(folder, command.name), text));
  fmt::print("{} defined\n", command.name);
  return 0;
}

Result<int> execute(const Undefine& command) {
  const std::string path = definition_path(TRY(own_definitions_folder()), command.name);
  const bool defined = ::unlink(path.c_str()) == 0;
  if (!defined && errno != ENOENT) return fail_errno(errno, "{}: cannot remove", path);
  const auto registry = TRY(control::Registry::open());
  const auto entry = registry.find(command.name);
  const bool live = entry && entry->state() == control::MachineView::State::kLive;
  if (entry && !live) TRY(registry.remove(command.name));
  if (!defined && live)
    return with_hint(fail("{}: this machine is running, and not defined", command.name),
                     fmt::format("end it: wick shutdown {}", command.name));
  if (!defined && !entry) return std::unexpected(entry.error());
  fmt::print("{} {}\n", command.name, defined ? "undefined" : "forgotten");
  return 0;
}

}  // namespace wick::cli::machines
