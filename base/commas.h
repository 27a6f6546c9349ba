// Lists with commas, as the values of options have them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace wick {

// The parts between commas, at least one. Two commas are one comma within a part.
std::vector<std::string> split_at_commas(std::string_view text);

}  // namespace wick
