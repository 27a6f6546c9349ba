// The value of -o: options of a new image, by qemu-img's names.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "image/new_image.h"

namespace wick::cli {

// All but its size and its backing file.
struct ParsedCreateOptions {
  image::CreateOptions options;
  std::vector<std::pair<std::string, std::string>> pairs;
};
Result<ParsedCreateOptions> parse_create_options(block::Format format,
                                                 std::span<const std::string> texts);

// Whether they ask what there is: -o help.
bool asks_for_options(std::span<const std::string> texts);
// As qemu-img's answer, with the options that wick has.
std::string help_on_create_options(block::Format format);
std::string help_on_amend_options(std::span<const std::string_view> keys);

// off, metadata, falloc or full.
Result<block::Preallocation> parse_preallocation(const std::string& value);

}  // namespace wick::cli
