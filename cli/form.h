// The forms of values, as the help shows them. The parsers, the help, the completion and the
// manual pages all go by them.
//
// A form is a list of alternatives with '|' between them. One in lower case is a word, to be
// written as it is; one in upper case stands for something else: "on|off", "auto|FILE".
// "KEY=FORM" and "WORD:FORM" are alternatives, too. The form of a SPEC has its keys behind the
// value: "PATH[,format=raw|qcow2][,readonly=on|off]"; dots follow a key that may repeat.
//
// Thread rule: none; pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wick::cli {

// The alternatives of `form` without its keys. CACHE and LEVEL are replaced by their words.
std::vector<std::string_view> alternatives(std::string_view form);

// True if `alternative` is a word.
bool is_word(std::string_view alternative);

// Returns the index of `value` among the alternatives, which must all be words; otherwise an
// error that lists them.
Result<size_t> choose(std::string_view form, std::string_view value);

// Checks `value` against a form of two or more words, with the error of choose(). Accepts any
// value for other forms.
Result<void> check_form(std::string_view form, std::string_view value);

// The keys of a SPEC.
struct SpecKey {
  std::string_view name;
  std::string_view form;
  bool repeats = false;
};
std::vector<SpecKey> spec_keys(std::string_view form);

}  // namespace wick::cli
