// Compression and decompression of qcow2's clusters ("Compressed Clusters Descriptor"): raw
// deflate, or one zstd frame. Decompression of vmdk's grains: zlib (RFC 1950).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "block/qcow2/format.h"

namespace wick::block::qcow2 {

// Fills `cluster` with the data at the start of `packed`. Returns false if the data is not valid.
bool decompress(Compression method, std::span<const std::byte> packed,
                std::span<std::byte> cluster);
// Returns the compressed cluster, or an empty vector if that would not be smaller. May be called on
// any thread.
std::vector<std::byte> compress(Compression method, std::span<const std::byte> cluster);

}  // namespace wick::block::qcow2

namespace wick::block {

// Fills `block` from zlib data at the start of `packed`. Returns false if the data is not valid.
// With `ends`, the data must end with the block, and its checksum must be correct.
bool inflate_zlib(std::span<const std::byte> packed, std::span<std::byte> block, bool ends);

}  // namespace wick::block
