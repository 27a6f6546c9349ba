#include "block/qcow2/refcounts.h"

#include <algorithm>

#include "base/bytes.h"
#include "block/qcow2/header.h"

namespace wick::block::qcow2 {

Task<Result<std::vector<uint64_t>>> read_refcount_table(File& file, const Header& header) {
  return read_table(file, header.refcount_table_offset,
                    (uint64_t{header.refcount_table_clusters} << header.cluster_bits) / 8);
}

uint64_t load_refcount(std::span<const std::byte> entries, uint64_t index, uint32_t order) {
  if (order < 3) {
    const uint64_t per_byte = 8u >> order;
    const auto byte = static_cast<uint8_t>(entries[index / per_byte]);
    return (byte >> (index % per_byte << order)) & ((1u << (1u << order)) - 1);
  }
  const auto entry = entries.subspan(index << (order - 3));
  switch (order) {
    case 3:
      return load_be<uint8_t>(entry);
    case 4:
      return load_be<uint16_t>(entry);
    case 5:
      return load_be<uint32_t>(entry);
    default:
      return load_be<uint64_t>(entry);
  }
}

void store_refcount(std::span<std::byte> entries, uint64_t index, uint32_t order, uint64_t value) {
  if (order < 3) {
    const uint64_t per_byte = 8u >> order;
    const auto shift = static_cast<unsigned>(index % per_byte << order);
    const unsigned mask = ((1u << (1u << order)) - 1) << shift;
    std::byte& byte = entries[index / per_byte];
    byte = static_cast<std::byte>((static_cast<unsigned>(byte) & ~mask) |
                                  static_cast<unsigned>(value) << shift);
    return;
  }
  const auto entry = entries.subspan(index << (order - 3));
  switch (order) {
    case 3:
      return store_be(entry, static_cast<uint8_t>(value));
    case 4:
      return store_be(entry, static_cast<uint16_t>(value));
    case 5:
      return store_be(entry, static_cast<uint32_t>(value));
    default:
      return store_be(entry, value);
  }
}

bool is_table(const Header& header, ClusterRun clusters) {
  const auto overlaps = [&](uint64_t offset, uint64_t bytes) {
    const ClusterRun table = header.clusters_of(offset, bytes);
    return table.count > 0 && clusters.first < table.end() && table.first < clusters.end();
  };
  return clusters.first == 0 || overlaps(header.l1_offset, uint64_t{header.l1_entries} * 8) ||
         overlaps(header.refcount_table_offset,
                  uint64_t{header.refcount_table_clusters} << header.cluster_bits) ||
         overlaps(header.snapshots_offset, uint64_t{header.snapshot_count} * 40) ||
         (has_bitmaps(header) &&
          overlaps(header.bitmaps->directory_offset, header.bitmaps->directory_bytes));
}

bool is_metadata(const Header& header, std::span<const uint64_t> l1,
                 std::span<const uint64_t> refcount_table, ClusterRun clusters) {
  const auto within = [&](uint64_t entry) {
    return entry != 0 && header.cluster_of(entry) - clusters.first < clusters.count;
  };
  return is_table(header, clusters) ||
         std::ranges::any_of(l1, [&](uint64_t entry) { return within(entry & kOffsetMask); }) ||
         std::ranges::any_of(refcount_table, within);
}

Refcounts::Refcounts(File& file, Header& header, std::vector<uint64_t> table, uint64_t cache_bytes,
                     IsMetadata is_metadata)
    : file_(file),
      header_(header),
      cache_(file, header.cluster_bytes(), cache_bytes),
      is_metadata_(std::move(is_metadata)),
      table_(std::move(table)),
      first_fresh_(header.clusters_for(file.size_bytes())) {}

uint64_t Refcounts::entry_offset(uint64_t cluster) const {
  const uint64_t bit = cluster % per_block() * header_.refcount_bits();
  return table_[cluster / per_block()] + bit / 8;
}

Task<Result<uint64_t>> Refcounts::get(uint64_t cluster) {
  const uint64_t block = cluster / per_block();
  if (block >= table_.size() || table_[block] == 0) co_return uint64_t{0};
  auto slice = co_await cache_.get(entry_offset(cluster));
  if (!slice) co_return failure(slice);
  const uint64_t per_slice = cache_.slice_bytes() * 8 / header_.refcount_bits();
  co_return load_refcount(*slice, cluster % per_slice, header_.refcount_order);
}

Task<Result<void>> Refcounts::set(uint64_t cluster, uint64_t value) {
  auto slice = co_await cache_.get_for_change(entry_offset(cluster));
  if (!slice) co_return failure(slice);
  const uint64_t per_slice = cache_.slice_bytes() * 8 / header_.refcount_bits();
  store_refcount(*slice, cluster % per_slice, header_.refcount_order, value);
  cache_.mark_dirty(entry_offset(cluster));
  if (value == 0) first_maybe_free_ = std::min(first_maybe_free_, cluster);
  co_return Result<void>();
}

Task<Result<void>> Refcounts::change(ClusterRun clusters, bool up) {
  for (uint64_t cluster = clusters.first; cluster < clusters.first + clusters.count; ++cluster) {
    const auto old = co_await get(cluster);
    if (!old) co_return std::unexpected(old.error());
    if (*old == 0)
      co_return with_hint(
          fail_errno(EIO, "{}: cluster {:#x} is referenced, but its reference count is 0",
                     file_.path(), cluster << header_.cluster_bits),
          "repair it with wick image check -r all");
    if (up && *old == header_.max_refcount())
      co_return with_hint(fail("{}: a reference count of {} bits is too small", file_.path(),
                               header_.refcount_bits()),
                          "copy it: wick image convert -O qcow2 -o refcount_bits=16");
    if (auto stored = co_await set(cluster, up ? *old + 1 : *old - 1); !stored) co_return stored;
  }
  co_return Result<void>();
}

Task<Result<void>> Refcounts::reserve(ClusterRun clusters) {
  const uint64_t per_slice = cache_.slice_bytes() * 8 / header_.refcount_bits();
  for (uint64_t cluster = clusters.first; cluster < clusters.first + clusters.count;
       cluster += per_slice - cluster % per_slice) {
    const uint64_t block = cluster / per_block();
    if (block >= table_.size() || table_[block] == 0) continue;  // changing the count will fail
    if (auto slice = co_await cache_.get_for_change(entry_offset(cluster)); !slice)
      co_return failure(slice);
  }
  co_return Result<void>();
}

// Places new refcount blocks at the start of the range that they count. The whole range must be
// free. The blocks count themselves and the `clusters_behind` clusters after them.
Task<Result<void>> Refcounts::create_blocks(uint64_t block, uint64_t count,
                                            uint64_t clusters_behind) {
  const ClusterRun place{block * per_block(), count + clusters_behind};
  if (is_metadata_(place))
    co_return fail_errno(EIO, "{}: the reference counts of its metadata at {:#x} are missing",
                         file_.path(), place.first << header_.cluster_bits);
  auto reserved =
      co_await file_.reserve(place.first << header_.cluster_bits, count << header_.cluster_bits);
  if (reserved)
    reserved = co_await file_.reserve(header_.refcount_table_offset + block * 8, count * 8);
  if (!reserved) co_return reserved;
  for (uint64_t i = 0; i < count; ++i) {
    table_[block + i] = (place.first + i) << header_.cluster_bits;
    dirty_table_entries_.insert(block + i);
    cache_.create(table_[block + i], header_.cluster_bytes());
  }
  const uint64_t per_slice = cache_.slice_bytes() * 8 / header_.refcount_bits();
  for (uint64_t i = 0; i < place.count; ++i)
    store_refcount(cache_.find(entry_offset(place.first + i)), i % per_slice,
                   header_.refcount_order, 1);
  first_fresh_ = std::max(first_fresh_, place.first + place.count);
  co_return Result<void>();
}

Task<Result<ClusterRun>> Refcounts::allocate(uint64_t most) {
  const uint64_t per_slice = cache_.slice_bytes() * 8 / header_.refcount_bits();
  ClusterRun run;
  for (uint64_t cluster = first_maybe_free_;;) {
    const uint64_t block = cluster / per_block();
    if (block >= table_.size()) {
      if (auto grown = co_await grow(block + 1); !grown) co_return failure(grown);
      continue;
    }
    if (table_[block] == 0)
      if (auto created = co_await create_blocks(block, 1, 0); !created) co_return failure(created);
    auto slice = co_await cache_.get(entry_offset(cluster));
    if (!slice) co_return failure(slice);
    const uint64_t end = cluster - cluster % per_slice + per_slice;
    const auto is_free = [&] {
      return load_refcount(*slice, cluster % per_slice, header_.refcount_order) == 0;
    };
    while (cluster < end && !is_free()) ++cluster;
    first_maybe_free_ = cluster;
    if (cluster == end) continue;
    slice = co_await cache_.get_for_change(entry_offset(cluster));
    if (!slice) co_return failure(slice);
    for (run.first = cluster; cluster < end && run.count < most && is_free(); ++cluster) {
      ++run.count;
      store_refcount(*slice, cluster % per_slice, header_.refcount_order, 1);
    }
    first_maybe_free_ = cluster;
    // A run does not continue in the next slice, so that all of its counts are changed at once.
    cache_.mark_dirty(entry_offset(run.first));
    if (is_metadata_(run)) {
      for (uint64_t i = 0; i < run.count; ++i)
        store_refcount(*slice, (run.first + i) % per_slice, header_.refcount_order, 0);
      co_return fail_errno(EIO, "{}: the reference counts say that metadata at {:#x} is free",
                           file_.path(), run.first << header_.cluster_bits);
    }
    first_fresh_ = std::max(first_fresh_, run.first + run.count);
    co_return run;
  }
}

// Allocates `count` neighbouring clusters together with the refcount blocks that count them. This
// is for many clusters, which do not fit between two refcount blocks: each block may be at the
// start of the range that it counts.
Task<Result<uint64_t>> Refcounts::allocate_row_behind(uint64_t count) {
  uint64_t blocks = 1;
  while (blocks * per_block() < blocks + count) ++blocks;
  for (;;) {
    uint64_t block = table_.size();
    while (block > 0 && table_[block - 1] == 0) --block;
    if (block + blocks <= table_.size()) {
      if (auto created = co_await create_blocks(block, blocks, count); !created)
        co_return failure(created);
      co_return block* per_block() + blocks;
    }
    if (auto grown = co_await grow(block + blocks + 1); !grown) co_return failure(grown);
  }
}

Task<Result<uint64_t>> Refcounts::allocate_row(uint64_t count) {
  if (count >= per_block()) co_return co_await allocate_row_behind(count);
  // This search goes on behind the rows that were too short. The next search begins with these
  // rows.
  uint64_t given_back = ~uint64_t{0};
  ClusterRun row;
  for (;;) {
    const auto run = co_await allocate(count - row.count);
    if (!run) {
      if (row.count > 0) co_await decrement(row);
      first_maybe_free_ = std::min(first_maybe_free_, given_back);
      co_return std::unexpected(run.error());
    }
    if (row.count > 0 && run->first == row.first + row.count) {
      row.count += run->count;
    } else {
      if (row.count > 0) {  // the row is too short
        given_back = std::min(given_back, row.first);
        if (auto freed = co_await decrement(row); !freed) {
          first_maybe_free_ = std::min(first_maybe_free_, given_back);
          co_return failure(freed);
        }
      }
      first_maybe_free_ = run->first + run->count;
      row = *run;
    }
    if (row.count < count) continue;
    first_maybe_free_ = std::min(first_maybe_free_, given_back);
    co_return row.first;
  }
}

Task<Result<uint64_t>> Refcounts::allocate_table(uint64_t count) {
  auto first = co_await allocate_row(count);
  if (!first) co_return first;
  auto reserved =
      co_await file_.reserve(*first << header_.cluster_bits, count << header_.cluster_bits);
  if (reserved) co_return first;
  if (auto freed = co_await decrement({*first, count}); !freed) co_return failure(freed);
  co_return failure(reserved);
}

// Calculates how large a table for `blocks` refcount blocks must be, and how many blocks count the
// new clusters.
Result<Refcounts::Growth> Refcounts::plan_growth(uint64_t blocks) const {
  const uint64_t per_table_cluster = header_.cluster_bytes() / 8;
  Growth growth{.first = table_.size() * per_block()};
  for (;; ++growth.blocks) {
    const uint64_t entries = std::max(blocks, table_.size() + growth.blocks);
    growth.table_clusters = (entries + entries / 2 + per_table_cluster - 1) / per_table_cluster;
    if (growth.blocks * per_block() >= growth.blocks + growth.table_clusters) break;
  }
  if (growth.table_clusters << header_.cluster_bits >
      std::max(kMaxRefcountTableBytes, header_.cluster_bytes()))
    return fail_errno(EFBIG, "{}: the refcount table would become too large", file_.path());
  if (is_metadata_({growth.first, growth.blocks + growth.table_clusters}))
    return fail_errno(EIO, "{}: the reference counts of its metadata at {:#x} are missing",
                      file_.path(), growth.first << header_.cluster_bits);
  return growth;
}

// Writes the new blocks and the new table, to which nothing points yet. Returns the table.
Task<Result<std::vector<uint64_t>>> Refcounts::write_growth(const Growth& growth) {
  const uint64_t bits = header_.cluster_bits;
  const uint64_t used = growth.blocks + growth.table_clusters;
  std::vector<uint64_t> table = table_;
  table.resize(growth.table_clusters << bits >> 3);
  for (uint64_t i = 0; i < growth.blocks; ++i)
    table[table_.size() + i] = (growth.first + i) << bits;
  std::vector<std::byte> bytes(used << bits);
  for (uint64_t i = 0; i < used; ++i)
    store_refcount(bytes, i, header_.refcount_order, 1);  // fills the blocks as if they were one
  for (uint64_t i = 0; i < table.size(); ++i)
    store_be(std::span(bytes).subspan((growth.blocks << bits) + i * 8), table[i]);
  first_fresh_ = std::max(first_fresh_, growth.first + used);
  if (auto written = co_await write_bytes(file_, growth.first << bits, bytes); !written)
    co_return failure(written);
  co_return table;
}

// Moves the refcount table, together with new blocks, to the first clusters that it does not cover.
// The new blocks count these clusters ("Host cluster management").
Task<Result<void>> Refcounts::grow(uint64_t blocks) {
  // After a failed move, the header in the file may name the table of that move, which
  // write_growth() could overwrite.
  if (auto restored = co_await restore_header(); !restored) co_return restored;
  const auto growth = plan_growth(blocks);
  if (!growth) co_return std::unexpected(growth.error());
  auto table = co_await write_growth(*growth);
  if (!table) co_return failure(table);
  const uint64_t offset = (growth->first + growth->blocks) << header_.cluster_bits;

  // The new table points to the blocks that were created since the last checkpoint. So these are
  // written before the header names the table.
  Copies dirty = take_dirty();
  auto done = co_await write_blocks(dirty);
  if (done) done = co_await file_.sync();
  if (done) {
    done = co_await write_refcount_table_fields(file_, offset, growth->table_clusters);
    header_unknown_ = !done;
  }
  if (done) dirty.table_entries.clear();
  written(dirty);
  if (!done) {
    co_await restore_header();  // if it fails, the next checkpoint tries again
    co_return done;
  }
  const ClusterRun old{header_.cluster_of(header_.refcount_table_offset),
                       header_.refcount_table_clusters};
  header_.refcount_table_offset = offset;
  header_.refcount_table_clusters = static_cast<uint32_t>(growth->table_clusters);
  table_ = *std::move(table);
  if (auto freed = co_await decrement(old); !freed) co_return freed;
  // Written at once: the caller may fail and never come to a checkpoint.
  Copies freed = take_dirty();
  done = co_await write_blocks(freed);
  written(freed);
  co_return done;
}

// The present table does not count the clusters of the table that the failed move wrote, so they
// are free.
Task<Result<void>> Refcounts::restore_header() {
  if (!header_unknown_) co_return Result<void>();
  auto done = co_await write_refcount_table_fields(file_, header_.refcount_table_offset,
                                                   header_.refcount_table_clusters);
  header_unknown_ = !done;
  co_return done;
}

Refcounts::Copies Refcounts::take_dirty() {
  return {cache_.take_dirty(), std::exchange(dirty_table_entries_, {})};
}

Task<Result<void>> Refcounts::write_blocks(Copies& copies) { return cache_.write(copies.blocks); }

Task<Result<void>> Refcounts::write_table(Copies& copies) {
  Result<void> result;
  std::set<uint64_t> failed;
  for (const uint64_t entry : copies.table_entries) {
    const bool has_block = std::ranges::none_of(copies.blocks, [&](const TableCache::Copy& copy) {
      return copy.failed && copy.overlaps(table_[entry], header_.cluster_bytes());
    });
    const std::span<const uint64_t> changed(&table_[entry], 1);
    const uint64_t offset = header_.refcount_table_offset + entry * 8;
    Result<void> written;
    if (has_block) written = co_await qcow2::write_table(file_, offset, changed);
    if (!has_block || !written) failed.insert(entry);
    if (!written && result) result = std::move(written);
  }
  copies.table_entries = std::move(failed);
  co_return result;
}

bool Refcounts::lacks_count(const Copies& copies, uint64_t cluster) const {
  const uint64_t block = cluster / per_block();
  if (block >= table_.size() || table_[block] == 0 || copies.table_entries.contains(block))
    return true;
  return std::ranges::any_of(copies.blocks, [&](const TableCache::Copy& copy) {
    return copy.failed && copy.overlaps(entry_offset(cluster), 1);
  });
}

void Refcounts::written(const Copies& copies) {
  cache_.written(copies.blocks);
  dirty_table_entries_.insert(copies.table_entries.begin(), copies.table_entries.end());
}

}  // namespace wick::block::qcow2
