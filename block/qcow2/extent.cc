// Qcow2::extent(): where the data is, for wick image map, compare and convert.
#include <algorithm>

#include "block/qcow2/qcow2.h"

namespace wick::block {

using namespace qcow2;

namespace {

// Returns whether so many clusters with a refcount above 0 are holes of the file that it is worth
// looking for holes. The rule is that of qemu-img 7.2, so that `map` prints the same.
Task<Result<bool>> is_preallocated(Metadata& metadata) {
  const Header& header = metadata.header();
  const File& file = metadata.file();
  const uint64_t real = header.cluster_of(file.allocated_bytes());
  const uint64_t threshold = std::max(real + real / 9, real + 2);
  const uint64_t end = header.clusters_for(file.size_bytes());
  const uint64_t per_block = header.refcounts_per_block();
  const std::vector<uint64_t>& table = metadata.refcounts().table();
  uint64_t counted = 0;
  for (uint64_t block = 0; block < table.size(); ++block) {
    // A refcount block in a hole of the file contains only zeroes. A hostile image may have so many
    // such blocks that reading them would take too long.
    const uint64_t place = table[block] & kOffsetMask;
    if (place == 0) continue;
    const File::Piece piece = file.piece_at(place);
    if (piece.hole && piece.end >= place + header.cluster_bytes()) continue;
    const uint64_t first = block * per_block;
    for (uint64_t i = first; i < std::min(end, first + per_block) && counted < threshold; ++i) {
      const auto count = co_await metadata.refcounts().get(i);
      if (!count) co_return std::unexpected(count.error());
      counted += *count > 0 ? 1 : 0;
    }
  }
  co_return counted >= threshold;
}

}  // namespace

// Returns how and where a mapped range is stored. `mapping` must not be kUnallocated.
Task<Result<Extent>> Qcow2::extent_of(Mapping mapping) {
  Extent extent{.length_bytes = mapping.length_bytes};
  if (mapping.has_cluster) {
    extent.host_offset = mapping.host_offset;
    extent.path = data().path();
  }
  if (mapping.kind == Mapping::Kind::kCompressed) extent.block_bytes = mapping.length_bytes;
  if (mapping.kind == Mapping::Kind::kZero) {
    extent.zero = true;
    extent.data = false;
  } else if (mapping.kind == Mapping::Kind::kData) {
    if (!preallocated_) {
      const auto found = co_await is_preallocated(metadata_);
      if (!found) co_return std::unexpected(found.error());
      preallocated_ = *found;
    }
    if (!*preallocated_) co_return extent;
    const File::Piece piece = data().piece_at(mapping.host_offset);
    if (piece.end > mapping.host_offset)
      extent.length_bytes = std::min(extent.length_bytes, piece.end - mapping.host_offset);
    extent.zero = piece.hole;
  }
  co_return extent;
}

Task<Result<Extent>> Qcow2::extent(uint64_t offset, uint64_t length) {
  if (auto checked = check_range(offset, length); !checked) co_return failure(checked);
  const auto mapping = co_await map(offset, length);
  if (!mapping) co_return std::unexpected(mapping.error());
  if (mapping->kind != Mapping::Kind::kUnallocated) {
    auto here = co_await extent_of(*mapping);
    co_return here;
  }
  const auto below = co_await find_backing_source(offset, mapping->length_bytes);
  if (!below) co_return std::unexpected(below.error());
  Extent extent{
      .length_bytes = below->length_bytes, .present = below->present, .zero = true, .data = false};
  if (below->image != nullptr) {
    auto found = co_await below->image->extent_of(below->mapping);
    if (!found) co_return found;
    extent = *found;
  } else if (below->disk != nullptr) {
    auto found = co_await below->disk->extent(offset, below->length_bytes);
    if (!found) co_return found;
    extent = *found;
  } else if (!backing_ && mapping->has_cluster) {
    extent.host_offset = mapping->host_offset;
    extent.path = data().path();
  }
  extent.depth += below->depth;
  co_return extent;
}

}  // namespace wick::block
