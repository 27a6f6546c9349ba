// Machines that are defined: config files ~/.config/wick/NAME.toml, in the format of --config.
//
// Thread rule: none.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace wick::cli {

// The folder; empty: none. The arguments are the environment's XDG_CONFIG_HOME and HOME, or
// nullptr; a relative path counts as none.
std::string definitions_folder(const char* config_home, const char* home);
// That of this process's environment.
std::string definitions_folder();

// NAME.toml in that folder; empty if there is no folder.
std::string definition_path(const std::string& folder, const std::string& name);

// The names of the machines that are defined in the folder, sorted.
std::vector<std::string> defined_machines(const std::string& folder);

}  // namespace wick::cli
