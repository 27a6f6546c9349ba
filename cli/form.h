// The forms of values, as the help shows them. The parsers, the help, the completion and the manual
// pages are all derived from the forms.
//
// A form is a list of alternatives with '|' between them: "on|off", "auto|FILE". An alternative in
// lower case is a word that the user writes as it is; one in upper case stands for a value.
// "KEY=FORM" and "WORD:FORM" are alternatives, too. The form of a SPEC has its keys behind the
// value: "PATH[,format=raw|qcow2][,readonly=on|off]"; dots follow a key that may repeat.
//
// Thread rule: any thread; pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wick::cli {

// Returns the alternatives of `form`, without its keys. The forms CACHE and LEVEL are replaced by
// their words.
std::vector<std::string_view> alternatives(std::string_view form);

// Returns true if `alternative` is a word.
bool is_word(std::string_view alternative);

// Returns the index of `value` among the alternatives of `form`, which must all be words. Fails
// with a list of the words if `value` is not one of them.
Result<size_t> choose(std::string_view form, std::string_view value);

// Checks `value` against a form of two or more words, and fails like choose(). Accepts any value
// for other forms.
Result<void> check_form(std::string_view form, std::string_view value);

// The keys of a SPEC.
struct SpecKey {
  std::string_view name;
  std::string_view form;
  bool repeats = false;
};
std::vector<SpecKey> spec_keys(std::string_view form);

}  // namespace wick::cli
