// The command lines of the commands for machines by name.
#pragma once

#include <string_view>

#include "cli/command_table.h"
#include "cli/machines/commands.h"

namespace wick::cli {

// The heading in the help of wick below which these commands are listed.
inline constexpr const char* kMachinesHeading = "Machines by name";

// Returns the table of the commands. `first` is the first argument of wick; `others` is true if
// `first` is a command or option of wick that is known. The table has only the commands that may be
// needed, because the creation of all takes a third of the time of a short run: one if `first`
// names it; all, without their options, for --help; none for any other known argument; otherwise
// all.
CommandTable<MachineCommand> machine_commands(CLI::App& wick, std::string_view first, bool others);

bool is_machine_command(std::string_view name);

}  // namespace wick::cli
