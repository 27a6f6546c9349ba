// The command line of wick image: a table of its commands and their options.
#pragma once

#include "cli/command_table.h"
#include "image/commands.h"

namespace wick::cli {

CommandTable<image::ImageCommand> image_commands(CLI::App& wick, bool filled);

}  // namespace wick::cli
