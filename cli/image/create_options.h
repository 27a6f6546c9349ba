// The value of -o: options of a new image, by qemu-img's names.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "image/new_image.h"

namespace wick::cli {

// The result of parse_create_options(). `options` has everything except the size, which is only in
// `pairs`.
struct ParsedCreateOptions {
  image::CreateOptions options;
  std::vector<std::pair<std::string, std::string>> pairs;
};
Result<ParsedCreateOptions> parse_create_options(block::Format format,
                                                 std::span<const std::string> texts);

// Returns the form (cli/form.h) of the value of -o.
std::string create_options_form(block::Format format);

// Returns true if one of `texts` asks for help, as in -o help.
bool asks_for_options(std::span<const std::string> texts);
// These functions return the answer to -o help, in qemu-img's layout, with the options that wick
// supports.
std::string help_on_create_options(block::Format format);
std::string help_on_amend_options(std::span<const std::string_view> keys);

// Parses off, metadata, falloc or full.
Result<block::Preallocation> parse_preallocation(const std::string& value);

}  // namespace wick::cli
