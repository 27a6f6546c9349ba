#include "block/qcow2/metadata.h"

#include <algorithm>

#include "base/bytes.h"

namespace wick::block::qcow2 {

namespace {

constexpr const char* kLookHint = "look at it with wick image check";

}  // namespace

Metadata::Metadata(File& file, Header header, std::vector<uint64_t> l1,
                   std::vector<uint64_t> refcount_table, uint64_t cache_bytes, bool read_only)
    : file_(file),
      read_only_(read_only),
      header_(std::move(header)),
      l1_(std::move(l1)),
      l2_(file, header_.cluster_bytes(), cache_bytes * 3 / 4),
      refcounts_(file, header_, std::move(refcount_table), cache_bytes / 4,
                 [this](ClusterRun clusters) {
                   return is_metadata(header_, l1_, refcounts_.table(), clusters);
                 }) {}

std::unexpected<Error> Metadata::corrupt(const char* what, uint64_t value) const {
  return with_hint(fail_errno(EIO, "{}: the qcow2 image is corrupt: {} {:#x}", path(), what, value),
                   kLookHint);
}

Result<void> Metadata::check_refcount_blocks() const {
  const uint64_t end = file_.size_bytes();
  std::vector<uint64_t> blocks;
  for (const uint64_t block : refcounts_.table()) {
    if (block == 0) continue;
    if (block % header_.cluster_bytes() != 0 || block >= end ||
        is_table(header_, {header_.cluster_of(block), 1}))
      return with_hint(
          fail("{}: the qcow2 image has a refcount block at {:#x}, an impossible place", path(),
               block),
          kLookHint);
    blocks.push_back(block);
  }
  // Refuses entries that name the same block: the allocator would search this block once for each
  // entry.
  std::ranges::sort(blocks);
  if (const auto twice = std::ranges::adjacent_find(blocks); twice != blocks.end())
    return with_hint(
        fail("{}: the qcow2 image has its refcount block at {:#x} twice", path(), *twice),
        kLookHint);
  return {};
}

Result<void> Metadata::check_l2_table(uint64_t index) const {
  const uint64_t table = l1_[index] & kOffsetMask;
  if (table == 0 && (l1_[index] & kCopied) == 0) return {};
  if (table % header_.cluster_bytes() != 0 || is_table(header_, {header_.cluster_of(table), 1}))
    return corrupt("an L2 table at an impossible place, L1 entry", l1_[index]);
  return {};
}

uint64_t Metadata::entry_offset(uint64_t offset) const {
  return (l1_[l1_index(offset)] & kOffsetMask) +
         header_.cluster_of(offset) % header_.l2_entries() * header_.l2_entry_bytes();
}

L2Entry Metadata::load_entry(std::span<const std::byte> slice, uint64_t offset) const {
  const auto entry = slice.subspan(entry_offset(offset) % l2_.slice_bytes());
  return {load_be<uint64_t>(entry),
          header_.extended_l2() ? load_be<uint64_t>(entry.subspan(8)) : 0};
}

void Metadata::store_entry(std::span<std::byte> slice, uint64_t offset, L2Entry entry) const {
  const auto place = slice.subspan(entry_offset(offset) % l2_.slice_bytes());
  store_be(place, entry.descriptor);
  if (header_.extended_l2()) store_be(place.subspan(8), entry.bitmap);
}

// Returns whether no other entry has this entry's cluster, so that the cluster may be written
// again.
bool Metadata::owns_cluster(L2Entry entry) const {
  return (entry.descriptor & (kCompressed | kCopied)) == kCopied &&
         ((entry.descriptor & kOffsetMask) != 0 || data_file_ != nullptr);
}

// Maps the range from `offset` to the end of its cluster, or subcluster. The order of the
// tests matters: bit 0 is part of a compressed cluster's offset (PITFALLS 8).
Result<Mapping> Metadata::classify(L2Entry entry, uint64_t offset) const {
  const uint64_t in_cluster = offset % header_.cluster_bytes();
  const uint64_t unit = header_.unit_bytes();
  Mapping mapping{.length_bytes = unit - in_cluster % unit};
  if ((entry.descriptor & kCompressed) != 0) {
    if (data_file_ != nullptr)
      return corrupt("a compressed cluster beside a data file, L2 entry", entry.descriptor);
    const CompressedRange range = compressed_range(header_, entry.descriptor);
    mapping.kind = Mapping::Kind::kCompressed;
    mapping.length_bytes = header_.cluster_bytes() - in_cluster;
    mapping.host_offset = range.offset;
    mapping.compressed_bytes = range.length_bytes;
    return mapping;
  }
  const uint64_t host = entry.descriptor & kOffsetMask;
  if (host % header_.cluster_bytes() != 0)
    return corrupt("a cluster not at a cluster's start, L2 entry", entry.descriptor);
  const bool has_cluster =
      host != 0 || (data_file_ != nullptr && (entry.descriptor & kCopied) != 0);
  bool allocated = has_cluster;
  bool zero = (entry.descriptor & kZero) != 0;
  if (header_.extended_l2()) {
    const uint64_t bit = in_cluster / unit;
    zero = (entry.bitmap >> (32 + bit) & 1) != 0;
    allocated = (entry.bitmap >> bit & 1) != 0;
    if (allocated && (zero || !has_cluster))
      return corrupt("subclusters that contradict each other, bitmap", entry.bitmap);
  }
  if (zero && header_.version < 3)
    return corrupt("a zero cluster in version 2, L2 entry", entry.descriptor);
  if (data_file_ == nullptr && owns_cluster(entry) &&
      is_table(header_, {header_.cluster_of(host), 1}))
    return corrupt("metadata mapped as data, L2 entry", entry.descriptor);
  mapping.has_cluster = has_cluster;
  if (has_cluster) mapping.host_offset = host + in_cluster;
  if (zero) {
    mapping.kind = Mapping::Kind::kZero;
  } else if (allocated) {
    mapping.kind = Mapping::Kind::kData;
    mapping.in_place = owns_cluster(entry);
  }
  return mapping;
}

// Maps a range by the entries in `slice`, which has the entry of `offset`.
Result<Mapping> Metadata::map_by(std::span<const std::byte> slice, uint64_t offset,
                                 uint64_t length) const {
  const uint64_t end = offset + std::min(length, slice_span() - offset % slice_span());
  Mapping mapping = TRY(classify(load_entry(slice, offset), offset));
  for (uint64_t at = offset + mapping.length_bytes;
       at < end && mapping.kind != Mapping::Kind::kCompressed;) {
    const auto next = classify(load_entry(slice, at), at);
    // A wrong entry further on is an error of the call that asks for that entry.
    if (!next || next->kind != mapping.kind || next->in_place != mapping.in_place ||
        next->has_cluster != mapping.has_cluster)
      break;
    if (next->has_cluster && next->host_offset != mapping.host_offset + (at - offset)) break;
    at += next->length_bytes;
    mapping.length_bytes = at - offset;
  }
  mapping.length_bytes = std::min(mapping.length_bytes, end - offset);
  return mapping;
}

Task<Result<Mapping>> Metadata::map(uint64_t offset, uint64_t length) {
  const uint64_t index = l1_index(offset);
  const uint64_t table_span = header_.l2_table_span();
  if (index >= l1_.size()) co_return Mapping{.length_bytes = length};
  if (auto checked = check_l2_table(index); !checked) co_return failure(checked);
  if ((l1_[index] & kOffsetMask) == 0)
    co_return Mapping{.length_bytes = std::min(length, table_span - offset % table_span)};
  const uint64_t place = entry_offset(offset);
  std::span<const std::byte> slice = l2_.find(place);
  if (slice.empty()) {
    auto loaded = co_await l2_.get(place);
    if (!loaded) co_return failure(loaded);
    slice = *loaded;
  }
  co_return map_by(slice, offset, length);
}

std::optional<Mapping> Metadata::map_at_once(uint64_t offset, uint64_t length) {
  const uint64_t index = l1_index(offset);
  if (index >= l1_.size() || (l1_[index] & kOffsetMask) == 0 || !check_l2_table(index)) return {};
  const std::span<const std::byte> slice = l2_.find(entry_offset(offset));
  if (slice.empty()) return {};
  const auto mapping = map_by(slice, offset, length);
  if (!mapping || mapping->kind != Mapping::Kind::kData || mapping->length_bytes != length)
    return {};
  return *mapping;
}

}  // namespace wick::block::qcow2
