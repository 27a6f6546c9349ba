// The reference counts of an image's host clusters, and the allocator that uses them (qcow2
// specification, "Host cluster management").
//
// Thread rule: one EventLoop. The caller serializes all calls that change something; the time
// from take_dirty() to written() counts as one call.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <vector>

#include "block/qcow2/format.h"
#include "block/qcow2/tables.h"

namespace wick::block::qcow2 {

Task<Result<std::vector<uint64_t>>> read_refcount_table(File& file, const Header& header);

uint64_t load_refcount(std::span<const std::byte> entries, uint64_t index, uint32_t order);
void store_refcount(std::span<std::byte> entries, uint64_t index, uint32_t order, uint64_t value);

// Returns whether the header points to a directory of bitmaps. Without the bit, a program that does
// not know bitmaps has written to the image, and what is at that place now may be anything.
inline bool has_bitmaps(const Header& header) {
  return header.bitmaps && (header.autoclear & kBitmaps) != 0;
}
// Returns whether one of the clusters holds the header, or a table to which the header points.
bool is_table(const Header& header, ClusterRun clusters);
// Returns whether one of the clusters holds metadata: the header, a table that the header names, an
// L2 table of `l1`, or a refcount block of `refcount_table`.
bool is_metadata(const Header& header, std::span<const uint64_t> l1,
                 std::span<const uint64_t> refcount_table, ClusterRun clusters);

class Refcounts {
 public:
  // Returns whether one of the clusters contains metadata. The allocator calls it before it uses
  // clusters: in an image with wrong counts, a cluster with the count 0 may contain a table
  // (PITFALLS 6).
  using IsMetadata = std::function<bool(ClusterRun)>;

  // `file` and `header` must outlive this. `header` is updated when the table moves.
  Refcounts(File& file, Header& header, std::vector<uint64_t> table, uint64_t cache_bytes,
            IsMetadata is_metadata);

  Task<Result<uint64_t>> get(uint64_t cluster);
  // Sets a count. The cluster's refcount block must exist.
  Task<Result<void>> set(uint64_t cluster, uint64_t value);
  // After an error, the first clusters of the run may have their new counts, and the others
  // their old ones.
  Task<Result<void>> increment(ClusterRun clusters) { return change(clusters, true); }
  Task<Result<void>> decrement(ClusterRun clusters) { return change(clusters, false); }
  // Reserves the host's space for the counts of these clusters, so that a change of the counts
  // needs no new space. Clusters without a refcount block are skipped.
  Task<Result<void>> reserve(ClusterRun clusters);

  // Allocates neighbouring clusters, at least one and at most `most`; sets their counts to 1.
  Task<Result<ClusterRun>> allocate(uint64_t most);
  // Allocates exactly `count` neighbouring clusters for a table, and reserves the host's space
  // for them. Returns the first.
  Task<Result<uint64_t>> allocate_table(uint64_t count);

  // Returns a cluster: this one and all later ones have never been written, so they read as zeroes.
  uint64_t first_fresh() const { return first_fresh_; }

  // The changes are written by take_dirty(), write_blocks(), a sync, write_table() and written(),
  // in this order. Each step writes all that it can, and returns the first error.
  struct Copies {
    std::vector<TableCache::Copy> blocks;
    std::set<uint64_t> table_entries;  // after write_table(): the entries that failed
  };
  Copies take_dirty();
  Task<Result<void>> write_blocks(Copies& copies);
  Task<Result<void>> write_table(Copies& copies);
  // Returns, after write_table(), whether the new count of the cluster could not be written to the
  // file.
  bool lacks_count(const Copies& copies, uint64_t cluster) const;
  // Ends the writing: copies that could not be written become dirty again.
  void written(const Copies& copies);
  bool needs_checkpoint() const { return cache_.needs_checkpoint(); }

  // Writes the table's place to the header again, if the table moved and writing the header failed.
  // Until this succeeds, the header in the file may name the old or the new table, counts must not
  // be written, and the table cannot grow.
  Task<Result<void>> restore_header();

  const std::vector<uint64_t>& table() const { return table_; }

 private:
  uint64_t per_block() const { return header_.refcounts_per_block(); }
  uint64_t entry_offset(uint64_t cluster) const;
  Task<Result<void>> change(ClusterRun clusters, bool up);
  Task<Result<void>> create_blocks(uint64_t block, uint64_t count, uint64_t clusters_behind);
  Task<Result<uint64_t>> allocate_row(uint64_t count);
  Task<Result<uint64_t>> allocate_row_behind(uint64_t count);

  // The new clusters for a larger table: refcount blocks that count all of them, and behind these
  // the table.
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

  std::vector<uint64_t> table_;  // offsets of the blocks; 0: no block
  std::set<uint64_t> dirty_table_entries_;
  uint64_t first_maybe_free_ = 0;
  uint64_t first_fresh_ = 0;
  bool header_unknown_ = false;  // writing the table's place failed: see restore_header()
};

}  // namespace wick::block::qcow2
