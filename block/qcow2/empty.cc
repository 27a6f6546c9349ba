#include "block/qcow2/qcow2.h"

namespace wick::block {

using namespace qcow2;

// A table goes whole, with the L1 entry that names it; snapshots keep theirs.
Task<Result<void>> Qcow2::make_empty() {
  if (auto checked = check_write(0, 0); !checked) co_return checked;
  if (auto begun = co_await begin_writing(); !begun) co_return begun;
  const uint64_t table_span = header_.l2_entries() << header_.cluster_bits;
  for (uint64_t index = 0; index < l1_.size(); ++index) {
    const uint64_t start = index * table_span;
    const auto held =
        co_await clusters_.exclusive(cluster_of(start), cluster_of(start + table_span - 1));
    if (auto done = co_await checkpoint_when_due(); !done) co_return done;
    if (auto checked = check_l2_table(index); !checked) co_return checked;
    const uint64_t table = l1_[index] & kOffsetMask;
    if (table == 0) continue;
    // All are read before any is let go: what a table still maps must not be freed.
    std::vector<Entry> entries;
    for (uint64_t at = start; at < start + table_span; at += slice_span()) {
      const auto slice = co_await l2_.get(entry_offset(at));
      if (!slice) co_return std::unexpected(slice.error());
      for (uint64_t cluster = at; cluster < at + slice_span(); cluster += header_.cluster_bytes())
        if (const Entry entry = load_entry(*slice, cluster); entry.descriptor != 0)
          entries.push_back(entry);
    }
    l1_[index] = 0;
    dirty_l1_.insert(index);
    l2_.forget(table, header_.cluster_bytes());
    for (const Entry entry : entries) release_cluster(entry, true);
    release_clusters({cluster_of(table), 1}, true);
  }
  co_return co_await checkpoint(true);
}

}  // namespace wick::block
