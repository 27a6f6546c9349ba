// Walks over the extents of a disk.
//
// Thread rule: the EventLoop of the disk.
#pragma once

#include <algorithm>
#include <vector>

#include "block/backend.h"

namespace wick::image {

// A thread other than the disk's asks for this many extents at once, because each call to the
// disk's thread takes two context switches.
constexpr size_t kExtentsAtOnce = 256;

// Returns the extents from `offset` to `end`, in order; no more than `max`. If an error follows
// some extents, returns these; the next call returns the error.
inline Task<Result<std::vector<block::Extent>>> extents_from(block::Backend& disk, uint64_t offset,
                                                             uint64_t end, size_t max) {
  std::vector<block::Extent> found;
  while (offset < end && found.size() < max) {
    auto extent = co_await disk.extent(offset, end - offset);
    if (!extent && found.empty()) co_return failure(extent);
    if (!extent) break;
    offset += extent->length_bytes;
    found.push_back(*std::move(extent));
  }
  co_return found;
}

}  // namespace wick::image
