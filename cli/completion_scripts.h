// The templates of the completion scripts, without the data about wick's commands.
//
// Each script has a function that completes a value by its form (cli/form.h). In the scripts, a
// form has '@' in place of a file's name and '%' in place of a machine's name, and omits everything
// that a shell cannot complete. The scripts find machines in the same folders as control/registry.h
// and cli/machines/definitions.h, without starting wick.
//
// Thread rule: any thread; constants.
#pragma once

namespace wick::cli {

// cli/completion.cc replaces @DATA@ and @COMMANDS@.
extern const char* const kBash;
extern const char* const kZsh;
extern const char* const kFish;

}  // namespace wick::cli
