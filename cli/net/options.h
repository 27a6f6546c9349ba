// The command line of wick net.
#pragma once

#include "cli/command_table.h"
#include "cli/net/commands.h"

namespace wick::cli {

CommandTable<NetCommand> net_commands(CLI::App& wick);

}  // namespace wick::cli
