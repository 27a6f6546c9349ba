// Changes of the mapping: which host clusters the guest's clusters have.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "block/qcow2/header.h"
#include "block/qcow2/metadata.h"

namespace wick::block::qcow2 {

// wick does not record writes in an image's bitmaps, so the header must not claim that they
// are valid.
Task<Result<void>> Metadata::begin_writing() {
  if (read_only_) co_return fail_errno(EROFS, "{}", path());
  const auto held = co_await lock();
  const uint64_t kept = header_.autoclear & kRawExternalData;
  if (!writing_ && header_.version >= 3 && header_.autoclear != kept) {
    std::array<std::byte, 8> field{};  // "Header", bytes 88 to 95
    store_be(std::span(field), kept);
    if (auto written = co_await write_header_fields(file_, 88, field); !written) co_return written;
    header_.autoclear = kept;
  }
  writing_ = true;
  co_return Result<void>();
}

Task<Result<void>> Metadata::prepare_change(uint64_t offset) {
  if (auto done = co_await checkpoint_when_due(); !done) co_return done;
  co_return co_await ensure_l2_table(l1_index(offset));
}

Task<Result<void>> Metadata::ensure_l2_table(uint64_t index) {
  if (auto checked = check_l2_table(index); !checked) co_return checked;
  if ((l1_[index] & kCopied) != 0) co_return Result<void>();
  const auto held = co_await lock();
  if ((l1_[index] & kCopied) != 0) co_return Result<void>();
  // The zeroes of an L1 table may be a hole of the file. This entry must have space on the host.
  if (auto reserved = co_await file_.reserve(header_.l1_offset + index * 8, 8); !reserved)
    co_return reserved;
  const auto allocated = co_await refcounts_.allocate_table(1);
  if (!allocated) co_return std::unexpected(allocated.error());
  const uint64_t table = *allocated << header_.cluster_bits;
  const uint64_t shared = l1_[index] & kOffsetMask;
  std::vector<std::byte> content(shared != 0 ? header_.cluster_bytes() : 0);
  if (shared != 0) {
    // A shared table is never dirty in the cache, so the file has its content.
    auto got = co_await read_bytes(file_, shared, content);
    if (!got) {
      co_await refcounts_.decrement({*allocated, 1});
      co_return got;
    }
  }
  l2_.create(table, header_.cluster_bytes());
  for (uint64_t at = 0; at < content.size(); at += l2_.slice_bytes())
    std::memcpy(l2_.find(table + at).data(), content.data() + at, l2_.slice_bytes());
  if (shared != 0) release_clusters({header_.cluster_of(shared), 1}, false);
  set_l1_entry(index, table | kCopied);
  co_return Result<void>();
}

Task<Result<Allocation>> Metadata::allocate(uint64_t offset, uint64_t length) {
  if (auto ready = co_await prepare_change(offset); !ready) co_return failure(ready);
  const auto entries = co_await l2_.get_for_change(entry_offset(offset));
  if (!entries) co_return std::unexpected(entries.error());
  const uint64_t cluster_bytes = header_.cluster_bytes();
  Allocation made;
  made.offset = offset - offset % cluster_bytes;
  const L2Entry first = load_entry(*entries, made.offset);
  made.old.push_back(first);
  made.reuses_cluster = owns_cluster(first);
  if (!made.reuses_cluster && !header_.extended_l2())
    for (uint64_t at = made.offset + cluster_bytes; at < offset + length; at += cluster_bytes) {
      const L2Entry entry = load_entry(*entries, at);
      if (owns_cluster(entry)) break;
      made.old.push_back(entry);
    }
  const bool has_subclusters =
      header_.extended_l2() &&
      (made.reuses_cluster || (first.descriptor & (kCompressed | kOffsetMask)) == 0);
  made.granule_bytes = has_subclusters ? header_.unit_bytes() : cluster_bytes;

  made.host_offset = data_file_ != nullptr ? made.offset : first.descriptor & kOffsetMask;
  if (data_file_ != nullptr || made.reuses_cluster) co_return made;
  const auto held = co_await lock();
  const uint64_t first_fresh = refcounts_.first_fresh();
  const auto allocated = co_await refcounts_.allocate(made.old.size());
  if (!allocated) co_return std::unexpected(allocated.error());
  made.clusters = *allocated;
  made.fresh = allocated->first >= first_fresh;
  made.host_offset = allocated->first << header_.cluster_bits;
  made.old.resize(allocated->count);
  co_return made;
}

Task<Result<void>> Metadata::map_allocation(const Allocation& allocation, uint64_t from,
                                            uint64_t to) {
  const uint64_t start = allocation.offset;
  const auto slice = co_await l2_.get_for_change(entry_offset(start));
  if (!slice) co_return std::unexpected(slice.error());
  for (size_t i = 0; i < allocation.old.size(); ++i) {
    const uint64_t in_run = i << header_.cluster_bits;
    const L2Entry& old = allocation.old[i];
    L2Entry entry{(allocation.host_offset + in_run) | kCopied, 0};
    if (header_.extended_l2()) {
      const uint64_t unit = header_.unit_bytes();
      uint64_t written = 0;
      for (uint64_t at = from; at < to; at += unit) written |= 1ull << (at - start) / unit;
      entry.bitmap = written;
      if (allocation.granule_bytes == unit) entry.bitmap |= old.bitmap & ~(written << 32);
    }
    store_entry(*slice, start + in_run, entry);
    if (!allocation.reuses_cluster) release(old, false);
  }
  l2_.mark_dirty(entry_offset(start));
  co_return Result<void>();
}

Task<Result<void>> Metadata::give_back(ClusterRun clusters) {
  if (clusters.count == 0) co_return Result<void>();
  const auto held = co_await lock();
  compressed_end_ = 0;  // the last compressed cluster may end in one of the clusters
  co_return co_await refcounts_.decrement(clusters);
}

// Appends to the last compressed cluster, so that both share a host cluster, or takes a new one.
Task<Result<uint64_t>> Metadata::allocate_compressed(uint64_t length) {
  const auto held = co_await lock();
  uint64_t place = compressed_end_;
  uint64_t room = align_up(place, header_.cluster_bytes()) - place;
  const ClusterRun shared{header_.cluster_of(place), 1};
  if (room > 0) {
    const auto count = co_await refcounts_.get(shared.first);
    if (!count) co_return std::unexpected(count.error());
    if (*count == 0 || *count >= header_.max_refcount())
      room = 0;
    else if (auto added = co_await refcounts_.increment(shared); !added)
      co_return failure(added);
  }
  if (length > room) {
    const auto run = co_await refcounts_.allocate(1);
    const bool goes_on = run && room > 0 && run->first == shared.end();
    if (room > 0 && !goes_on)
      if (auto freed = co_await refcounts_.decrement(shared); !freed) co_return failure(freed);
    if (!run) co_return std::unexpected(run.error());
    if (!goes_on) place = run->first << header_.cluster_bits;
  }
  compressed_end_ = place + length;
  co_return place;
}

Task<Result<void>> Metadata::map_compressed(uint64_t offset, CompressedRange range) {
  const auto slice = co_await l2_.get_for_change(entry_offset(offset));
  if (!slice) co_return std::unexpected(slice.error());
  const L2Entry old = load_entry(*slice, offset);
  store_entry(*slice, offset, {compressed_entry(header_, range), 0});
  l2_.mark_dirty(entry_offset(offset));
  release(old, false);
  co_return Result<void>();
}

Task<Result<void>> Metadata::clear_entries(uint64_t offset, uint64_t length, bool keep_clusters,
                                           bool hide_backing) {
  constexpr uint64_t kAllZero = 0xffff'ffff'0000'0000;  // bitmap of an extended entry: all zeroes
  const auto slice = co_await l2_.get_for_change(entry_offset(offset));
  if (!slice) co_return std::unexpected(slice.error());
  for (uint64_t at = offset; at < offset + length; at += header_.cluster_bytes()) {
    const L2Entry old = load_entry(*slice, at);
    L2Entry entry;
    if (keep_clusters && owns_cluster(old)) entry.descriptor = old.descriptor;
    if (header_.version >= 3 && (hide_backing || entry.descriptor != 0)) {
      if (header_.extended_l2())
        entry.bitmap = kAllZero;
      else
        entry.descriptor |= kZero;
    }
    if (entry.descriptor == old.descriptor && entry.bitmap == old.bitmap) continue;
    store_entry(*slice, at, entry);
    if ((entry.descriptor & kOffsetMask) == 0) release(old, true);
    l2_.mark_dirty(entry_offset(at));
  }
  co_return Result<void>();
}

void Metadata::set_l1_entry(uint64_t index, uint64_t entry) {
  l1_[index] = entry;
  dirty_l1_.insert(index);
}

void Metadata::drop_l2_table(uint64_t index, bool punch) {
  const uint64_t table = l1_[index] & kOffsetMask;
  l2_.forget(table, header_.cluster_bytes());
  release_clusters({header_.cluster_of(table), 1}, punch);
  set_l1_entry(index, 0);
}

}  // namespace wick::block::qcow2
