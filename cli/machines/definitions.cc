#include "cli/machines/definitions.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "control/registry.h"

namespace wick::cli {

std::string definitions_folder(const char* config_home, const char* home) {
  // A relative path in XDG_CONFIG_HOME is invalid (XDG Base Directory Specification 0.8).
  if (config_home != nullptr && *config_home == '/') return fmt::format("{}/wick", config_home);
  if (home != nullptr && *home == '/') return fmt::format("{}/.config/wick", home);
  return {};
}

std::string definitions_folder() {
  return definitions_folder(std::getenv("XDG_CONFIG_HOME"), std::getenv("HOME"));
}

std::string definition_path(const std::string& folder, const std::string& name) {
  return folder.empty() ? std::string() : fmt::format("{}/{}.toml", folder, name);
}

std::vector<std::string> defined_machines(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator file(folder, error), end; !error && file != end;
       file.increment(error)) {
    const std::string name = file->path().stem();
    if (file->path().extension() == ".toml" && control::check_machine_name(name))
      names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace wick::cli
