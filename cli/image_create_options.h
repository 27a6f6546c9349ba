// The value of -o: options of a new image, by qemu-img's names.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "block/create.h"

namespace wick::cli {

// All but its size and its backing file.
struct ParsedCreateOptions {
  block::CreateOptions options;
  std::vector<std::pair<std::string, std::string>> pairs;
};
Result<ParsedCreateOptions> parse_create_options(block::Format format,
                                                 std::span<const std::string> texts);

// off, metadata, falloc or full.
Result<block::Preallocation> parse_preallocation(const std::string& value);

}  // namespace wick::cli
