// The word that a mistyped one was probably meant to be.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace wick::cli {

// The one of `words` with the fewest edits to `typed`: a character more, less or other, or two
// neighbours exchanged. Empty if that takes more edits than a third of its characters.
std::string nearest(std::string_view typed, std::span<const std::string> words);

}  // namespace wick::cli
