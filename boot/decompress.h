// Decompresses a kernel file that is compressed as a whole: gzip, xz, zstd, lz4 in the frame
// format or in the legacy format that Linux uses. The result is a memfd, which its InputFile
// owns.
//
// Specification: RFC 1952 (gzip), RFC 8878 (zstd), the .xz File Format 1.1,
// LZ4 Frame Format 1.6 with its section "Legacy frame".
#pragma once

#include "boot/input_file.h"

namespace wick::boot {

// Twice the size of a kernel with all its debug information.
constexpr uint64_t kMaxDecompressedBytes = 1 << 30;

// Returns `file` itself if it does not begin with the magic of one of these formats.
// Concatenated streams count as one; data after the last, a signature for instance, are
// ignored, as gzip does. Fails if the data are damaged, truncated, or longer than
// `limit_bytes` when decompressed.
Result<InputFile> decompressed(InputFile file, uint64_t limit_bytes = kMaxDecompressedBytes);

}  // namespace wick::boot
