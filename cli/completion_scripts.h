// The completion scripts of the shells, without the data about wick's commands.
//
// Each script has a function that completes a value by its form (cli/form.h). In the scripts'
// forms '@' stands for a file's name and '%' for that of a machine, and whatever a shell cannot
// complete is left out. The scripts find machines as control/registry.h and
// cli/machines/definitions.h do, but start no wick.
//
// Thread rule: none; constants.
#pragma once

namespace wick::cli {

// @DATA@ and @COMMANDS@ are to be replaced (cli/completion.cc).
extern const char* const kBash;
extern const char* const kZsh;
extern const char* const kFish;

}  // namespace wick::cli
