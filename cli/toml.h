// Config files: the part of TOML 1.0 that a flat list of options needs. Keys
// are bare, values are strings on one line, decimal numbers, booleans, and
// arrays of these; tables and the rest are refused by name. (CLI11's reader
// cuts strings at '#', reads on over mistakes and knows no line numbers.)
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wick::cli {

struct TomlEntry {
  std::string key;
  std::vector<std::string> values;  // scalars as text: "256M", "2", "true"
  size_t line = 0;
};

// Keys are unique. Errors begin with "line N: ".
Result<std::vector<TomlEntry>> parse_toml(std::string_view text);

}  // namespace wick::cli
