// Turns the options of each command of wick image into a value. Errors name the option.
#pragma once

#include "cli/command_table.h"
#include "image/commands.h"

namespace wick::cli {

Result<image::ImageCommand> make_create(const Given& given);
Result<image::ImageCommand> make_info(const Given& given);
Result<image::ImageCommand> make_convert(const Given& given);
Result<image::ImageCommand> make_commit(const Given& given);
Result<image::ImageCommand> make_rebase(const Given& given);
Result<image::ImageCommand> make_check(const Given& given);
Result<image::ImageCommand> make_resize(const Given& given);
Result<image::ImageCommand> make_snapshot(const Given& given);
Result<image::ImageCommand> make_map(const Given& given);
Result<image::ImageCommand> make_compare(const Given& given);
Result<image::ImageCommand> make_io(const Given& given);
Result<image::ImageCommand> make_dd(const Given& given);
Result<image::ImageCommand> make_measure(const Given& given);
Result<image::ImageCommand> make_bitmap(const Given& given);
Result<image::ImageCommand> make_amend(const Given& given);
Result<image::ImageCommand> make_bench(const Given& given);

}  // namespace wick::cli
