// Finds the known word that the user probably meant by a mistyped word.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace wick::cli {

// Returns the word of `words` that is the fewest edits away from `typed`. An edit inserts, removes
// or replaces a character, or exchanges two neighbours. Returns an empty string if the number of
// edits is more than a third of the length of `typed`.
std::string nearest(std::string_view typed, std::span<const std::string> words);

}  // namespace wick::cli
