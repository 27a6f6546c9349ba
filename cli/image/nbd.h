// The command line of wick image nbd, which follows qemu-nbd's.
#pragma once

#include "cli/command_table.h"
#include "image/commands.h"

namespace wick::cli {

CommandSyntax nbd_syntax();
Result<image::ImageCommand> make_nbd(const Given& given);

}  // namespace wick::cli
