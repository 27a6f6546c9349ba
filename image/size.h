// Sizes as qemu-img reads and writes them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace wick::image {

// Bytes; zero too. A suffix B, K, M, G, T, P or E (either case, binary) may follow, and
// then the number may have a fraction; 0x starts a number of bytes.
Result<uint64_t> parse_image_size(std::string_view text);

// Three digits and a unit: "1.5 GiB".
std::string human_size(uint64_t bytes);

}  // namespace wick::image
