// Defined machines: config files ~/.config/wick/NAME.toml, in the format of --config.
//
// Thread rule: any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace wick::cli {

// Returns the folder of the config files; empty: there is none. The arguments are the environment's
// XDG_CONFIG_HOME and HOME, or nullptr; a relative path counts as none.
std::string definitions_folder(const char* config_home, const char* home);
// Returns the folder that this process's environment gives.
std::string definitions_folder();

// Returns the path of NAME.toml in `folder`; empty if `folder` is empty.
std::string definition_path(const std::string& folder, const std::string& name);

// Returns the names of the machines that are defined in `folder`, sorted.
std::vector<std::string> defined_machines(const std::string& folder);

}  // namespace wick::cli
