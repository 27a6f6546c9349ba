// A kernel file that is compressed as a whole: gzip, xz, zstd, lz4 in its frame
// format or in the legacy one that Linux uses. What comes out is a file in
// memory, gone with its InputFile.
//
// Specification: RFC 1952 (gzip), RFC 8878 (zstd), the .xz File Format 1.1,
// LZ4 Frame Format 1.6 with its section "Legacy frame".
#pragma once

#include "boot/input_file.h"

namespace wick::boot {

// A kernel with all its debug information is half as large.
constexpr uint64_t kMostDecompressedBytes = 1 << 30;

// `file` itself when it does not begin as one of these formats. Streams one
// behind the other count as one; what follows the last, a signature for
// instance, is ignored, as gzip does. Refused: what is damaged, cut short, or
// makes more than `limit_bytes`.
Result<InputFile> decompressed(InputFile file, uint64_t limit_bytes = kMostDecompressedBytes);

}  // namespace wick::boot
