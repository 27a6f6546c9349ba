// What changes a qcow2 image: writes, allocation, and the checkpoints that carry
// its metadata to the file.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/references.h"

namespace wick::block {

using namespace qcow2;

namespace {

// So much is mapped, allocated and written in one step.
constexpr uint64_t kMaxStepBytes = 2 << 20;
constexpr size_t kMaxUnmapped = 4096;
constexpr uint64_t kAllZero = 0xffff'ffff'0000'0000;  // the bitmap of an extended L2 entry

}  // namespace

// An image whose bitmaps we do not keep must not claim that they are right.
Task<Result<void>> Qcow2::begin_writing() {
  const auto held = co_await metadata_.exclusive(0, 0);
  const uint64_t kept = header_.autoclear & kRawExternalData;
  if (!writing_ && header_.version >= 3 && header_.autoclear != kept) {
    std::array<std::byte, 8> field{};
    store_be(std::span(field), kept);
    const iovec buffer{field.data(), field.size()};
    auto written = co_await file_->write(88, {&buffer, 1});
    if (written) written = co_await file_->sync();
    if (!written) co_return written;
    header_.autoclear = kept;
  }
  writing_ = true;
  co_return Result<void>();
}

Task<Result<void>> Qcow2::write(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length = total_bytes(buffers);
  if (auto checked = check_write(offset, length); !checked) co_return checked;
  if (!writing_)
    if (auto begun = co_await begin_writing(); !begun) co_return begun;
  if (length > 0) {
    const auto held =
        co_await clusters_.shared(cluster_of(offset), cluster_of(offset + length - 1));
    const auto mapping = map_at_once(offset, length);
    if (mapping && mapping->in_place)
      co_return co_await data().write(mapping->host_offset, buffers);
  }
  for (uint64_t done = 0; done < length;) {
    std::vector<iovec> rest;
    if (done > 0) rest = slice(buffers, done, length - done);
    auto written =
        co_await write_some(offset + done, done > 0 ? std::span<const iovec>(rest) : buffers);
    if (!written) co_return failure(written);
    done += *written;
  }
  co_return Result<void>();
}

// Writes a first part of the buffers; returns its length.
Task<Result<uint64_t>> Qcow2::write_some(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length =
      std::min({total_bytes(buffers), slice_span() - offset % slice_span(), kMaxStepBytes});
  const uint64_t first = cluster_of(offset);
  const uint64_t last = cluster_of(offset + length - 1);
  // Most need not have their clusters alone; those that do look again when they have.
  for (bool alone = false;; alone = true) {
    const auto held = co_await clusters_.enter(first, last, alone);
    const auto mapping = co_await map(offset, length);
    if (!mapping) co_return std::unexpected(mapping.error());
    if (mapping->in_place) {
      auto written = co_await write_in_place(*mapping, buffers);
      if (!written) co_return failure(written);
      co_return mapping->length_bytes;
    }
    if (alone) co_return co_await write_allocating(offset, buffers, mapping->length_bytes);
  }
}

Task<Result<void>> Qcow2::write_in_place(const Mapping& mapping, std::span<const iovec> buffers) {
  if (total_bytes(buffers) == mapping.length_bytes)
    co_return co_await data().write(mapping.host_offset, buffers);
  const auto part = slice(buffers, 0, mapping.length_bytes);
  co_return co_await data().write(mapping.host_offset, part);
}

// The part of a cluster beside what is written to it. `needed` becomes false when
// it is zeroes and the host's cluster is `fresh`, so that nothing need be written.
Task<Result<void>> Qcow2::old_content(uint64_t offset, std::span<std::byte> to, bool fresh,
                                      bool& needed) {
  auto zero = co_await reads_as_zeroes(offset, to.size());
  if (!zero) co_return failure(zero);
  needed = !to.empty() && !(*zero && fresh);
  if (!needed || *zero) co_return Result<void>();
  const iovec buffer = to_iovec(to);
  co_return co_await read_locked(offset, {&buffer, 1});
}

// `length` bytes, mapped alike, that cannot be written where they are. Holds their
// clusters. Data first, then the entries that publish it (PITFALLS 5).
Task<Result<uint64_t>> Qcow2::write_allocating(uint64_t offset, std::span<const iovec> buffers,
                                               uint64_t length) {
  if (auto done = co_await checkpoint_when_due(); !done) co_return failure(done);
  if (auto made = co_await ensure_l2_table(l1_index(offset)); !made) co_return failure(made);

  const uint64_t cluster_bytes = header_.cluster_bytes();
  const uint64_t start = offset - offset % cluster_bytes;
  auto entries = co_await l2_.get_for_change(entry_offset(offset));
  if (!entries) co_return failure(entries);
  std::vector<Entry> old = {load_entry(*entries, start)};
  const bool reuses = owns_cluster(old.front());
  if (!reuses && !header_.extended_l2())
    for (uint64_t at = start + cluster_bytes; at < offset + length; at += cluster_bytes) {
      const Entry entry = load_entry(*entries, at);
      if (owns_cluster(entry)) break;
      old.push_back(entry);
    }

  Run run{0, 0};
  uint64_t host = old.front().descriptor & kOffsetMask;
  bool fresh = false;
  if (data_file_) {
    host = start;
  } else if (!reuses) {
    const auto held = co_await metadata_.exclusive(0, 0);
    const uint64_t first_fresh = refcounts_.first_fresh();
    const auto allocated = co_await refcounts_.allocate(old.size());
    if (!allocated) co_return std::unexpected(allocated.error());
    run = *allocated;
    fresh = run.first >= first_fresh;
    host = run.first << header_.cluster_bits;
    old.resize(run.count);
  }

  // The rest of the clusters, or of the subclusters where the others are no matter.
  const uint64_t end = std::min(offset + length, start + old.size() * cluster_bytes);
  const bool by_units = header_.extended_l2() &&
                        (reuses || (old.front().descriptor & (kCompressed | kOffsetMask)) == 0);
  const uint64_t granule = by_units ? header_.unit_bytes() : cluster_bytes;
  const uint64_t filled_from = offset - offset % granule;
  const uint64_t filled_to = align_up(end, granule);
  const auto room = co_await bounce_->copied_up.take(offset - filled_from + (filled_to - end));
  std::vector<std::byte> head(offset - filled_from);
  std::vector<std::byte> tail(filled_to - end);
  bool head_needed = false, tail_needed = false;
  auto written = co_await old_content(filled_from, head, fresh, head_needed);
  if (written) written = co_await old_content(end, tail, fresh, tail_needed);
  if (written) {
    std::vector<iovec> all = slice(buffers, 0, end - offset);
    if (head_needed) all.insert(all.begin(), to_iovec(head));
    if (tail_needed) all.push_back(to_iovec(tail));
    const uint64_t from = head_needed ? filled_from : offset;
    written = co_await data().write(host + (from - start), all);
  }
  std::span<std::byte> slice_bytes;
  if (written) {
    auto again = co_await l2_.get_for_change(entry_offset(offset));
    if (again)
      slice_bytes = *again;
    else
      written = failure(again);
  }
  if (!written) {
    const auto held = co_await metadata_.exclusive(0, 0);
    if (run.count > 0)
      if (auto freed = co_await refcounts_.decrement(run); !freed) co_return failure(freed);
    co_return failure(written);
  }
  for (size_t i = 0; i < old.size(); ++i) {
    Entry entry{(host + i * cluster_bytes) | kCopied, 0};
    if (header_.extended_l2()) {
      const uint64_t unit = header_.unit_bytes();
      uint64_t now = 0;
      for (uint64_t at = filled_from; at < filled_to; at += unit)
        now |= 1ull << (at - start) / unit;
      entry.bitmap = (by_units ? (old[i].bitmap & ~(now << 32)) : 0) | now;
    }
    store_entry(slice_bytes, start + i * cluster_bytes, entry);
    if (!reuses) release_cluster(old[i], false);
  }
  l2_.mark_dirty(entry_offset(offset));
  co_return end - offset;
}

Task<Result<void>> Qcow2::ensure_l2_table(uint64_t index) {
  if (auto checked = check_l2_table(index); !checked) co_return checked;
  if ((l1_[index] & kCopied) != 0) co_return Result<void>();
  const auto held = co_await metadata_.exclusive(0, 0);
  if ((l1_[index] & kCopied) != 0) co_return Result<void>();
  // Of an L1 table only what is not zero need be on the host.
  if (auto reserved = co_await file_->reserve(header_.l1_offset + index * 8, 8); !reserved)
    co_return reserved;
  const auto allocated = co_await refcounts_.allocate_table(1);
  if (!allocated) co_return std::unexpected(allocated.error());
  const uint64_t table = *allocated << header_.cluster_bits;
  const uint64_t shared = l1_[index] & kOffsetMask;
  std::vector<std::byte> content(shared != 0 ? header_.cluster_bytes() : 0);
  if (shared != 0) {
    const iovec buffer = to_iovec(content);
    auto got = co_await file_->read(shared, {&buffer, 1});  // what is shared is not dirty
    if (!got) {
      co_await refcounts_.decrement({*allocated, 1});
      co_return got;
    }
  }
  l2_.create(table, header_.cluster_bytes());
  for (uint64_t at = 0; at < content.size(); at += l2_.slice_bytes())
    std::memcpy(l2_.find(table + at).data(), content.data() + at, l2_.slice_bytes());
  if (shared != 0) release_clusters({cluster_of(shared), 1}, false);
  l1_[index] = table | kCopied;
  dirty_l1_.insert(index);
  co_return Result<void>();
}

// The entry's host clusters are no longer this disk's.
void Qcow2::release_cluster(Entry entry, bool punch) {
  if (data_file_) return;
  if ((entry.descriptor & kCompressed) != 0) {
    const CompressedRange range = compressed_range(header_, entry.descriptor);
    const uint64_t first = cluster_of(range.offset);
    release_clusters({first, cluster_of(range.offset + range.length_bytes - 1) - first + 1}, punch);
    decompressed_.clear();  // its place may hold another one
    compressed_end_ = 0;    // which may be in the same cluster
  } else if (const uint64_t host = entry.descriptor & kOffsetMask; host != 0) {
    release_clusters({cluster_of(host), 1}, punch);
  }
}

void Qcow2::release_clusters(Run clusters, bool punch) {
  unmapped_clusters_ += clusters.count;
  if (!unmapped_.empty() && unmapped_.back().punch == punch &&
      unmapped_.back().clusters.first + unmapped_.back().clusters.count == clusters.first)
    unmapped_.back().clusters.count += clusters.count;
  else
    unmapped_.push_back({clusters, punch});
}

bool Qcow2::should_free() const {
  return unmapped_.size() > kMaxUnmapped || unmapped_clusters_ * 32 > refcounts_.first_fresh();
}

Task<Result<void>> Qcow2::discard(uint64_t offset, uint64_t length) {
  if (auto checked = check_write(offset, length); !checked) co_return checked;
  const uint64_t cluster = header_.cluster_bytes();
  const uint64_t from = align_up(offset, cluster);
  // The disk may end within a cluster.
  const uint64_t to = offset + length == size_bytes() ? align_up(offset + length, cluster)
                                                      : (offset + length) / cluster * cluster;
  // Version 2 cannot hide a backing file. A data file that is the disk, byte by byte, must
  // read like it, for which no zeroes are to be written.
  if (from >= to || (header_.version == 2 && backing_) ||
      (raw_data() && !data_file_->zeroes_fast(true)))
    co_return Result<void>();
  co_return co_await clear(from, to - from, raw_data() ? Clear::kUnmap : Clear::kDiscard);
}

Task<Result<void>> Qcow2::write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) {
  if (auto checked = check_write(offset, length); !checked || length == 0) co_return checked;
  const uint64_t cluster = header_.cluster_bytes();
  const uint64_t end = offset + length;
  const uint64_t from = std::min(align_up(offset, cluster), end);
  uint64_t to =
      end == size_bytes() ? align_up(end, cluster) : std::max(end / cluster * cluster, from);
  if (from == end || (header_.version == 2 && (backing_ || !may_unmap))) to = from;
  if (from > offset)
    if (auto done = co_await zero_part(offset, from - offset); !done) co_return done;
  if (to > from)
    if (auto done = co_await clear(from, to - from, may_unmap ? Clear::kUnmap : Clear::kKeep);
        !done)
      co_return done;
  if (end > to) co_return co_await zero_part(to, end - to);
  co_return Result<void>();
}

// By writing, a step at a time, what does not read as zeroes already.
Task<Result<void>> Qcow2::zero_part(uint64_t offset, uint64_t length) {
  while (length > 0) {
    const std::vector<iovec> zeroes = zero_buffers(length);
    const uint64_t step = total_bytes(zeroes);
    bool zero = false;
    {
      const auto held =
          co_await clusters_.shared(cluster_of(offset), cluster_of(offset + step - 1));
      auto known = co_await reads_as_zeroes(offset, step);
      if (!known) co_return failure(known);
      zero = *known;
    }
    if (!zero)
      if (auto written = co_await write(offset, zeroes); !written) co_return written;
    offset += step;
    length -= step;
  }
  co_return Result<void>();
}

// Whole clusters that read as zeroes from now on; with kKeep they stay allocated
// where they are. With kForget they may read as the backing file, and what a data file
// holds there stays, because it may not be this disk's.
Task<Result<void>> Qcow2::clear(uint64_t offset, uint64_t length, Clear how) {
  const bool keep = how == Clear::kKeep;
  if (!writing_)
    if (auto begun = co_await begin_writing(); !begun) co_return begun;
  const uint64_t cluster = header_.cluster_bytes();
  while (length > 0) {
    const uint64_t step = std::min(length, slice_span() - offset % slice_span());
    const auto held =
        co_await clusters_.exclusive(cluster_of(offset), cluster_of(offset + step - 1));
    if (auto done = co_await checkpoint_when_due(); !done) co_return done;
    if (l1_[l1_index(offset)] != 0 || (backing_ && how != Clear::kForget)) {
      if (auto made = co_await ensure_l2_table(l1_index(offset)); !made) co_return made;
      if (data_file_ && how != Clear::kForget) {
        Task<Result<void>> cleared = how == Clear::kKeep    ? data_file_->zero(offset, step)
                                     : how == Clear::kUnmap ? data_file_->punch(offset, step)
                                                            : data_file_->discard(offset, step);
        if (auto done = co_await cleared; !done) co_return done;
      }
      auto slice_bytes = co_await l2_.get_for_change(entry_offset(offset));
      if (!slice_bytes) co_return failure(slice_bytes);
      for (uint64_t at = offset; at < offset + step; at += cluster) {
        const Entry old = load_entry(*slice_bytes, at);
        Entry entry;
        if (owns_cluster(old) && (keep || data_file_) && how != Clear::kForget)
          entry.descriptor = old.descriptor;
        if (header_.version >= 3 && how != Clear::kForget && (backing_ || entry.descriptor != 0)) {
          if (header_.extended_l2())
            entry.bitmap = kAllZero;
          else
            entry.descriptor |= kZero;
        }
        if (entry.descriptor == old.descriptor && entry.bitmap == old.bitmap) continue;
        store_entry(*slice_bytes, at, entry);
        if ((entry.descriptor & kOffsetMask) == 0) release_cluster(old, true);
        l2_.mark_dirty(entry_offset(at));
      }
    }
    offset += step;
    length -= step;
  }
  co_return Result<void>();
}

// Checkpoints

Task<Result<void>> Qcow2::flush() {
  if (options_.read_only) co_return Result<void>();
  co_return co_await checkpoint(true);
}

// `stable`: what completed before the call is on stable storage afterwards.
Task<Result<void>> Qcow2::checkpoint(bool stable) {
  const auto held = co_await metadata_.exclusive(0, 0);
  co_return co_await checkpoint_locked(stable);
}

// Before a change that adds to what a checkpoint writes. A checkpoint for which the host
// has no space is told by the next flush; here only when memory would grow for it.
Task<Result<void>> Qcow2::checkpoint_when_due() {
  if (!l2_.crowded() && !refcounts_.crowded() && !should_free()) co_return Result<void>();
  auto done = co_await checkpoint(false);
  const bool bounded = !l2_.crowded() && !refcounts_.crowded() && unmapped_.size() <= kMaxUnmapped;
  if (!done && bounded && (done.error().code == ENOSPC || done.error().code == EDQUOT))
    co_return Result<void>();
  co_return done;
}

Task<Result<void>> Qcow2::checkpoint_locked(bool stable) {
  // What is written to a table that the header may not name would be lost.
  if (auto restored = co_await restore_l1_fields(); !restored) co_return restored;
  Changes changes{.counts = refcounts_.take_dirty(),
                  .tables = l2_.take_dirty(),
                  .l1 = std::exchange(dirty_l1_, {}),
                  .unmapped = std::exchange(unmapped_, {})};
  const uint64_t unmapped_clusters = std::exchange(unmapped_clusters_, 0);
  auto done = co_await write_changes(changes, stable);
  refcounts_.written(changes.counts);
  l2_.written(changes.tables);
  dirty_l1_.insert(changes.l1.begin(), changes.l1.end());
  if (!done) {
    unmapped_.insert(unmapped_.begin(), changes.unmapped.begin(), changes.unmapped.end());
    unmapped_clusters_ += unmapped_clusters;
    co_return done;
  }
  frees_.insert(frees_.end(), changes.unmapped.begin(), changes.unmapped.end());
  co_return co_await apply_frees();
}

Task<Result<void>> Qcow2::sync_all() {
  if (data_file_)
    if (auto synced = co_await data_file_->sync(); !synced) co_return synced;
  co_return co_await file_->sync();
}

// Each step writes all that it can, and what leads to something that could not be
// written waits for the next checkpoint. Leaves in `changes` what is not in the file.
// A sync that fails ends it: from then on all of them do.
Task<Result<void>> Qcow2::write_changes(Changes& changes, bool stable) {
  const bool maps = !changes.tables.empty() || !changes.l1.empty();
  const bool new_blocks = !changes.counts.table_entries.empty();
  const bool new_tables = !changes.tables.empty();
  auto result = co_await refcounts_.write_blocks(changes.counts);
  const auto keep_first_error = [&](Result<void> done) {
    if (result) result = std::move(done);
  };
  const auto sync = [&]() -> Task<Result<void>> {
    auto synced = co_await sync_all();
    if (!synced)
      for (auto* copies : {&changes.tables, &changes.counts.blocks})
        for (TableCache::Copy& copy : *copies) copy.failed = true;
    co_return synced;
  };
  if (maps || new_blocks)
    if (auto synced = co_await sync(); !synced) co_return synced;
  if (new_blocks) {
    keep_first_error(co_await refcounts_.write_table(changes.counts));
    if (maps)
      if (auto synced = co_await sync(); !synced) co_return synced;
  }
  if (!result)
    for (TableCache::Copy& copy : changes.tables)
      copy.failed = maps_uncounted(copy, changes.counts);
  keep_first_error(co_await l2_.write(changes.tables));
  if (new_tables && !changes.l1.empty())
    if (auto synced = co_await sync(); !synced) co_return synced;
  for (auto index = changes.l1.begin(); index != changes.l1.end();) {
    const uint64_t table = l1_[*index] & kOffsetMask;
    const bool can_be_named =
        result || table == 0 ||
        (!refcounts_.lacks_count(changes.counts, cluster_of(table)) &&
         std::ranges::none_of(changes.tables, [&](const TableCache::Copy& copy) {
           return copy.failed && copy.overlaps(table, header_.cluster_bytes());
         }));
    std::array<std::byte, 8> entry{};
    store_be(std::span(entry), l1_[*index]);
    const iovec buffer{entry.data(), entry.size()};
    Result<void> written;
    if (can_be_named) written = co_await file_->write(header_.l1_offset + *index * 8, {&buffer, 1});
    index = can_be_named && written ? changes.l1.erase(index) : std::next(index);
    keep_first_error(std::move(written));
  }
  if (stable || !changes.unmapped.empty())
    if (auto synced = co_await sync(); !synced) co_return synced;
  co_return result;
}

// Whether an entry of these leads to a cluster whose count the file lacks.
bool Qcow2::maps_uncounted(const TableCache::Copy& entries, const Refcounts::Copies& counts) const {
  const std::span bytes(entries.bytes);
  for (uint64_t at = 0; at < bytes.size(); at += header_.l2_entry_bytes()) {
    const L2Finding found =
        examine_l2_entry(header_, load_be<uint64_t>(bytes.subspan(at)),
                         header_.extended_l2() ? load_be<uint64_t>(bytes.subspan(at + 8)) : 0);
    if (found.length_bytes == 0) continue;
    const uint64_t last = cluster_of(found.offset + found.length_bytes - 1);
    for (uint64_t cluster = cluster_of(found.offset); cluster <= last; ++cluster)
      if (refcounts_.lacks_count(counts, cluster)) return true;
  }
  return false;
}

// A cluster may be taken again only after its hole is made (PITFALLS 4). What goes
// wrong here leaks, and harms nothing else.
Task<Result<void>> Qcow2::apply_frees() {
  const std::vector<Free> frees = std::exchange(frees_, {});
  Result<void> result;
  for (const Free& free : frees) {
    if (is_table(free.clusters)) continue;  // only where an image's entries lie
    if (auto room = co_await refcounts_.reserve(free.clusters); !room) {
      frees_.push_back(free);  // until the host has space for the counts
      continue;
    }
    if (free.punch && file_->can_discard()) {
      bool alone = true;
      for (uint64_t i = 0; alone && i < free.clusters.count; ++i) {
        const auto count = co_await refcounts_.get(free.clusters.first + i);
        alone = count && *count == 1;
      }
      if (alone)
        co_await file_->discard(free.clusters.first << header_.cluster_bits,
                                free.clusters.count << header_.cluster_bits);
    }
    for (uint64_t i = 0; i < free.clusters.count; ++i) {
      auto freed = co_await refcounts_.decrement({free.clusters.first + i, 1});
      if (!freed && result) result = std::move(freed);
    }
  }
  if (frees.empty()) co_return result;
  // Not synced: until it is stable there are leaks.
  auto counts = refcounts_.take_dirty();
  auto written = co_await refcounts_.write_blocks(counts);
  refcounts_.written(counts);
  if (result) result = std::move(written);
  co_return result;
}

}  // namespace wick::block
