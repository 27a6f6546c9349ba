#include "base/bytes.h"
#include "block/qcow2/qcow2.h"

namespace wick::block {

using namespace qcow2;

// Data first, then the entry that publishes it (PITFALLS 5).
Task<Result<void>> Qcow2::write_compressed(uint64_t offset, std::span<const std::byte> packed) {
  if (auto checked = check_write(offset, 1); !checked) co_return checked;
  if (offset % header_.cluster_bytes() != 0 || packed.empty() ||
      packed.size() >= header_.cluster_bytes())
    co_return fail_errno(EINVAL, "{}: no compressed cluster, {} bytes at {:#x}", path(),
                         packed.size(), offset);
  if (data_file_)
    co_return fail("{}: an image with a data file has no compressed clusters", path());
  if (!writing_)
    if (auto begun = co_await begin_writing(); !begun) co_return begun;
  const auto held = co_await clusters_.exclusive(cluster_of(offset), cluster_of(offset));
  if (auto done = co_await checkpoint_when_due(); !done) co_return done;
  if (auto made = co_await ensure_l2_table(l1_index(offset)); !made) co_return made;
  const auto place = co_await place_compressed(packed.size());
  if (!place) co_return std::unexpected(place.error());

  const iovec buffer = to_iovec(packed);
  auto written = co_await file_->write(*place, {&buffer, 1});
  if (written) {
    auto slice = co_await l2_.get_for_change(entry_offset(offset));
    if (slice) {
      const Entry old = load_entry(*slice, offset);
      store_entry(*slice, offset, {compressed_entry(header_, {*place, packed.size()}), 0});
      l2_.mark_dirty(entry_offset(offset));
      if (old.descriptor != 0) release_cluster(old, false);
      co_return Result<void>();
    }
    written = std::unexpected(std::move(slice).error());
  }
  const auto alone = co_await metadata_.exclusive(0, 0);
  compressed_end_ = 0;
  const uint64_t first = cluster_of(*place);
  const uint64_t last = cluster_of(*place + packed.size() - 1);
  if (auto freed = co_await refcounts_.decrement({first, last - first + 1}); !freed)
    co_return freed;
  co_return written;
}

Task<Result<void>> Qcow2::end_compressed() {
  if (const uint64_t end = file_->size_bytes(); end % 512 != 0)
    if (auto done = file_->truncate(align_up(end, 512)); !done) co_return done;
  co_return co_await flush();
}

// Room for so many bytes, less than a cluster: behind the last compressed cluster,
// whose host cluster both then share, or in a new one.
Task<Result<uint64_t>> Qcow2::place_compressed(uint64_t length) {
  const auto held = co_await metadata_.exclusive(0, 0);
  uint64_t place = compressed_end_;
  uint64_t room = align_up(place, header_.cluster_bytes()) - place;
  if (room > 0) {
    const auto count = co_await refcounts_.get(cluster_of(place));
    if (!count) co_return std::unexpected(count.error());
    if (*count == 0 || *count >= header_.max_refcount())
      room = 0;
    else if (auto shared = co_await refcounts_.increment({cluster_of(place), 1}); !shared)
      co_return failure(shared);
  }
  if (length > room) {
    const auto run = co_await refcounts_.allocate(1);
    const bool goes_on = run && room > 0 && run->first == cluster_of(place) + 1;
    if (room > 0 && !goes_on)
      if (auto freed = co_await refcounts_.decrement({cluster_of(place), 1}); !freed)
        co_return failure(freed);
    if (!run) co_return std::unexpected(run.error());
    if (!goes_on) place = run->first << header_.cluster_bits;
  }
  compressed_end_ = place + length;
  co_return place;
}

}  // namespace wick::block
