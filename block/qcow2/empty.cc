#include "block/qcow2/empty.h"

namespace wick::block::qcow2 {

Task<Result<void>> make_empty(Metadata& metadata) {
  if (auto begun = co_await metadata.begin_writing(); !begun) co_return begun;
  const Header& header = metadata.header();
  for (uint64_t index = 0; index < metadata.l1().size(); ++index) {
    if (auto done = co_await metadata.checkpoint_when_due(); !done) co_return done;
    if (auto checked = metadata.check_l2_table(index); !checked) co_return checked;
    if ((metadata.l1()[index] & kOffsetMask) == 0) continue;
    // The whole table is read before anything is released: what is still mapped must not be
    // freed.
    std::vector<L2Entry> entries;
    const uint64_t start = index * header.l2_table_span();
    const uint64_t slice_span = metadata.slice_span();
    for (uint64_t at = start; at < start + header.l2_table_span(); at += slice_span) {
      const auto slice = co_await metadata.l2_tables().get(metadata.entry_offset(at));
      if (!slice) co_return std::unexpected(slice.error());
      for (uint64_t cluster = at; cluster < at + slice_span; cluster += header.cluster_bytes())
        if (const L2Entry entry = metadata.load_entry(*slice, cluster); entry.descriptor != 0)
          entries.push_back(entry);
    }
    for (const L2Entry entry : entries) metadata.release(entry, true);
    metadata.drop_l2_table(index, true);
  }
  co_return co_await metadata.checkpoint(true);
}

}  // namespace wick::block::qcow2
