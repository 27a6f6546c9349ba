// Sizes as qemu-img reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace wick::image {

// Returns a number of bytes, which may be zero. A suffix B, K, M, G, T, P or E (powers of 1024,
// upper or lower case) may follow the number; before all of these but B, the number may have a
// fraction. 0x starts a hexadecimal number of bytes.
Result<uint64_t> parse_image_size(std::string_view text);

}  // namespace wick::image
