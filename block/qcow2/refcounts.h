// The reference counts of an image's host clusters, and with them the allocator
// (qcow2 specification, "Host cluster management").
//
// Thread rule: one EventLoop; the caller lets only one coroutine in at a time,
// also from take_dirty() to written().
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include "block/qcow2/format.h"
#include "block/qcow2/tables.h"

namespace wick::block::qcow2 {

Task<Result<std::vector<uint64_t>>> read_refcount_table(File& file, const Header& header);

uint64_t load_refcount(std::span<const std::byte> entries, uint64_t index, uint32_t order);
void store_refcount(std::span<std::byte> entries, uint64_t index, uint32_t order, uint64_t value);

class Refcounts {
 public:
  // Says whether any of the clusters holds metadata: the last guard of an image
  // whose counts are wrong (PITFALLS 6).
  using IsMetadata = std::function<bool(ClusterRun)>;

  // `file` and `header` must outlive this; `header` follows when the table moves.
  Refcounts(File& file, Header& header, std::vector<uint64_t> table, uint64_t cache_bytes,
            IsMetadata is_metadata);

  Task<Result<uint64_t>> get(uint64_t cluster);
  // For who knows what it should be. The cluster's block exists.
  Task<Result<void>> set(uint64_t cluster, uint64_t value);
  // At the moment of an error the clusters before it have their new counts.
  Task<Result<void>> increment(ClusterRun clusters) { return change(clusters, true); }
  Task<Result<void>> decrement(ClusterRun clusters) { return change(clusters, false); }
  // Reserves the host's space for the counts of these clusters, which have blocks, so
  // that changing them needs none.
  Task<Result<void>> reserve(ClusterRun clusters);

  // Neighbouring free clusters, at least one and at most `most`, now counted once.
  Task<Result<ClusterRun>> allocate(uint64_t most);
  // The same for a table: all in a row, and with the host's space reserved. Returns
  // the first.
  Task<Result<uint64_t>> allocate_table(uint64_t count);

  // Clusters from here on have never been written: they read as zeroes.
  uint64_t first_fresh() const { return first_fresh_; }

  // What is to be written: blocks first, then, when those are stable, the table. Both
  // write all that they can; the result is the first error.
  struct Copies {
    std::vector<TableCache::Copy> blocks;
    std::set<uint64_t> table_entries;  // of which write_table() leaves what failed
  };
  Copies take_dirty();
  Task<Result<void>> write_blocks(Copies& copies);
  Task<Result<void>> write_table(Copies& copies);
  // After both: whether the file lacks the new count of the cluster.
  bool lacks_count(const Copies& copies, uint64_t cluster) const;
  // The end of what take_dirty() began; what failed is dirty again.
  void written(const Copies& copies);
  bool crowded() const { return cache_.crowded(); }

  // When the table has moved and writing that to the header has failed, the header in the file
  // may name either table. This makes it name the one in use. Until it succeeds, counts must
  // not be written, and the table cannot grow.
  Task<Result<void>> restore_header();

  const std::vector<uint64_t>& table() const { return table_; }

 private:
  uint64_t per_block() const { return header_.refcounts_per_block(); }
  uint64_t entry_offset(uint64_t cluster) const;
  Task<Result<void>> change(ClusterRun clusters, bool up);
  Task<Result<void>> create_blocks(uint64_t block, uint64_t count, uint64_t clusters_behind);
  Task<Result<uint64_t>> allocate_row(uint64_t count);
  Task<Result<uint64_t>> allocate_row_behind(uint64_t count);

  // New clusters for a larger table: blocks that count them all, and behind them the table.
  struct Growth {
    uint64_t first = 0;
    uint64_t blocks = 1;
    uint64_t table_clusters = 0;
  };
  Result<Growth> plan_growth(uint64_t blocks) const;
  Task<Result<std::vector<uint64_t>>> write_growth(const Growth& growth);
  Task<Result<void>> grow(uint64_t blocks);

  File& file_;
  Header& header_;
  TableCache cache_;
  const IsMetadata is_metadata_;

  std::vector<uint64_t> table_;  // offsets of the blocks, 0: none
  std::set<uint64_t> dirty_table_entries_;
  uint64_t first_maybe_free_ = 0;
  uint64_t first_fresh_ = 0;
  bool header_unknown_ = false;  // see restore_header()
};

}  // namespace wick::block::qcow2
