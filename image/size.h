// Sizes as qemu-img reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace wick::image {

// Returns a number of bytes, which may be zero. A binary suffix B, K, M, G, T, P or E in either
// case may follow the number, which may have a fraction then. 0x starts a hexadecimal number of
// bytes.
Result<uint64_t> parse_image_size(std::string_view text);

}  // namespace wick::image
