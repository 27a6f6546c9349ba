// Sizes as qemu-img reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace wick::image {

// Returns bytes; zero is valid. A binary suffix B, K, M, G, T, P or E in either case may
// follow, and then the number may have a fraction. 0x starts a hexadecimal number of bytes.
Result<uint64_t> parse_image_size(std::string_view text);

}  // namespace wick::image
