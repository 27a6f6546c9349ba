// Decompresses a kernel: a file that is compressed as a whole, or the payload of a bzImage. The
// formats are gzip, xz, lzma, zstd, bzip2, lzop, and lz4 in the frame format or in the legacy
// format that Linux uses.
//
// Specification: RFC 1952 (gzip), RFC 8878 (zstd), the .xz File Format 1.1, the .lzma File Format,
// LZ4 Frame Format 1.6 with its section "Legacy frame". The format of bzip2 is defined only by its
// library, that of lzop only by Linux, lib/decompress_unlzo.c.
#pragma once

#include <span>
#include <string>

#include "boot/input_file.h"

namespace wick::boot {

// Twice the size of a kernel with all its debug information.
constexpr uint64_t kMaxDecompressedBytes = 1 << 30;

// Decompresses a whole file. Returns `file` itself if it does not begin with the magic of one of
// these formats. All concatenated streams are decompressed, into one result; data after the last
// stream, for instance a signature, are ignored, as gzip does. Fails if the data are damaged,
// truncated, or longer than `limit_bytes` when decompressed. The result is a memfd, which its
// InputFile owns.
Result<InputFile> decompressed(InputFile file, uint64_t limit_bytes = kMaxDecompressedBytes);

// The kind of a format, by the magic of `data`. kNone: `data` have none of the formats above;
// kQuick: lz4 or lzop, which decompress at gigabytes per second; kSlow: any other of these formats.
enum class Compression { kNone, kQuick, kSlow };
Compression compression_of(std::span<const std::byte> data);

// Decompresses the first stream of `data`, whose compression_of() is not kNone, and returns the
// number of bytes written to `out`. Fails if the data are damaged, truncated, or longer than
// `out` when decompressed. `name` is for messages.
Result<uint64_t> decompress_stream(std::span<const std::byte> data, std::span<std::byte> out,
                                   const std::string& name);

}  // namespace wick::boot
