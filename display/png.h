// Files with the picture of a guest's screen, as PNG or PPM. PNG needs libpng, which is loaded when
// the first PNG is written.
//
// Thread rule: any thread. Writing does not wait for the reader of a pipe.
//
// Specification: PNG, second edition (ISO/IEC 15948); ppm(5).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"
#include "display/picture.h"

namespace wick::display {

// Return the picture as the contents of a file, with 8 bits for each of red, green and blue.
Result<std::vector<std::byte>> encode_png(const Picture& picture);
Result<std::vector<std::byte>> encode_ppm(const Picture& picture);

// Write a file. A new file can be read only by its owner; an existing file keeps its mode. If
// writing fails, a regular file is removed.
Result<void> write_png(const Picture& picture, const std::string& path);
Result<void> write_ppm(const Picture& picture, const std::string& path);

}  // namespace wick::display
