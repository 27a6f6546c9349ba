// Parses config files, in the part of TOML that a flat list of options needs. Values are strings,
// numbers, booleans, and arrays of these; an error names tables and dates as unsupported. toml11
// parses the file. (CLI11's parser cuts strings at '#', ignores errors and has no line numbers.)
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

// Returns the entries in the order of the file; keys are unique. Errors begin with "line N: ".
Result<std::vector<TomlEntry>> parse_toml(std::string_view text);

}  // namespace wick::cli
