// Walks over the extents of a disk.
//
// Thread rule: the EventLoop of the disk.
#pragma once

#include <algorithm>
#include <vector>

#include "block/backend.h"

namespace wick::image {

// Other threads ask for so many at once, because each question takes them two switches.
constexpr size_t kExtentsAtOnce = 256;

// The extents from `offset` to `end`, in order; no more than `max`. Those before an error are
// returned without it; the next call gets the error.
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
