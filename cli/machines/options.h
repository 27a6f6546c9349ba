// The command lines of the commands for machines by name.
#pragma once

#include <string_view>

#include "cli/command_table.h"
#include "cli/machines/commands.h"

namespace wick::cli {

// The heading of the help, below which these commands are.
inline constexpr const char* kMachinesHeading = "Machines by name";

// `first` is the first argument of wick. A command line has only the command that it names, since
// to create them all takes a third of the time of a short run; the help of wick has them all,
// without their options. `others`: the first argument names another command.
CommandTable<MachineCommand> machine_commands(CLI::App& wick, std::string_view first, bool others);

bool is_machine_command(std::string_view name);

}  // namespace wick::cli
