// The command line of wick net.
#pragma once

#include "cli/command_table.h"
#include "hostnet/commands.h"

namespace wick::cli {

CommandTable<hostnet::NetCommand> net_commands(CLI::App& wick, bool filled);

}  // namespace wick::cli
