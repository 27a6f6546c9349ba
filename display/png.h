// Files of a guest's screen: PNG by libpng, which is loaded when the first one is written, and PPM.
//
// Thread rule: any thread. Writing does not wait for the reader of a pipe.
// Specification: PNG, second edition (ISO/IEC 15948); ppm(5).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"
#include "display/picture.h"

namespace wick::display {

// The contents of a file: 8 bits for each of red, green and blue.
Result<std::vector<std::byte>> encode_png(const Picture& picture);
Result<std::vector<std::byte>> encode_ppm(const Picture& picture);

// Writes a file that only its owner can read. If that fails, no part of the file is left.
Result<void> write_png(const Picture& picture, const std::string& path);
Result<void> write_ppm(const Picture& picture, const std::string& path);

}  // namespace wick::display
