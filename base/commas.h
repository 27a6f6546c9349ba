// Lists separated by commas, as in the values of options.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace wick {

// Returns the parts between commas, at least one. Two commas in a row stand for one comma in a
// part.
std::vector<std::string> split_at_commas(std::string_view text);

}  // namespace wick
