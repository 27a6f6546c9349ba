// Requests that change the guest's data: writes, discards, zeroes.
#include <algorithm>

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"

namespace wick::block {

using namespace qcow2;

namespace {

// The largest part of a request that is mapped, allocated and written in one step.
constexpr uint64_t kMaxStepBytes = 2 << 20;

}  // namespace

Task<Result<void>> Qcow2::write(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length = total_bytes(buffers);
  if (auto checked = check_write(offset, length); !checked) co_return checked;
  if (!metadata_.writing())
    if (auto begun = co_await metadata_.begin_writing(); !begun) co_return begun;
  if (length > 0) {
    const auto held = co_await lock_clusters(offset, length, false);
    const auto mapping = metadata_.map_at_once(offset, length);
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

// Writes as much from the start of the buffers as one step can; returns that length.
Task<Result<uint64_t>> Qcow2::write_some(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t span = metadata_.slice_span();
  const uint64_t length = std::min({total_bytes(buffers), span - offset % span, kMaxStepBytes});
  // Most writes change no mapping and need their clusters only shared. Any other write then locks
  // its clusters exclusively, and looks at their mapping again, which may have changed meanwhile.
  for (bool alone = false;; alone = true) {
    const auto held = co_await lock_clusters(offset, length, alone);
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

// A write to newly allocated clusters: the guest's data from `offset` to `end`, and before and
// after it the old content, so that whole granules are written.
struct Qcow2::Surroundings {
  uint64_t offset;
  uint64_t end;
  uint64_t from;  // where the first granule starts
  uint64_t to;
  std::vector<std::byte> head = std::vector<std::byte>(offset - from);
  std::vector<std::byte> tail = std::vector<std::byte>(to - end);
  bool head_needed = false;  // false: that place reads as `head` already
  bool tail_needed = false;
};

// Writes the first part of a range of `length` bytes, and returns the part's length. The whole
// range is mapped alike and cannot be written in place. The caller holds its clusters exclusively.
//
// The order is: allocate, read what the guest does not write, write the data, map the clusters. So
// a cluster is mapped only when its data is there (PITFALLS 5).
Task<Result<uint64_t>> Qcow2::write_allocating(uint64_t offset, std::span<const iovec> buffers,
                                               uint64_t length) {
  const auto to = co_await metadata_.allocate(offset, length);
  if (!to) co_return std::unexpected(to.error());
  const uint64_t end =
      std::min(offset + length, to->offset + (uint64_t{to->old.size()} << header().cluster_bits));
  const uint64_t from = offset - offset % to->granule_bytes;
  const uint64_t filled_to = align_up(end, to->granule_bytes);
  const auto room = co_await bounce_->copied_up.take(offset - from + (filled_to - end));
  Surroundings around{.offset = offset, .end = end, .from = from, .to = filled_to};
  auto done = co_await read_surroundings(*to, around);
  if (done) done = co_await write_allocated(*to, around, buffers);
  if (done) done = co_await metadata_.map_allocation(*to, from, filled_to);
  if (done) co_return end - offset;
  if (auto freed = co_await metadata_.give_back(to->clusters); !freed) co_return failure(freed);
  co_return failure(done);
}

Task<Result<void>> Qcow2::read_surroundings(const Allocation& to, Surroundings& around) {
  const auto head = co_await old_content(around.from, around.head, to.fresh);
  if (!head) co_return std::unexpected(head.error());
  around.head_needed = *head;
  const auto tail = co_await old_content(around.end, around.tail, to.fresh);
  if (!tail) co_return std::unexpected(tail.error());
  around.tail_needed = *tail;
  co_return Result<void>();
}

Task<Result<void>> Qcow2::write_allocated(const Allocation& to, const Surroundings& around,
                                          std::span<const iovec> buffers) {
  std::vector<iovec> all = slice(buffers, 0, around.end - around.offset);
  if (around.head_needed) all.insert(all.begin(), to_iovec(around.head));
  if (around.tail_needed) all.push_back(to_iovec(around.tail));
  const uint64_t from = around.head_needed ? around.from : around.offset;
  co_return co_await data().write(to.host_offset + (from - to.offset), all);
}

// Reads the present content of a range into `to`, which is zeroes. Returns whether that content
// must be written. Zeroes need not be written if the host's cluster is `fresh`.
Task<Result<bool>> Qcow2::old_content(uint64_t offset, std::span<std::byte> to, bool fresh) {
  const auto zero = co_await reads_as_zeroes(offset, to.size());
  if (!zero) co_return std::unexpected(zero.error());
  if (to.empty() || *zero) co_return !to.empty() && !fresh;
  const iovec buffer = to_iovec(to);
  if (auto got = co_await read_locked(offset, {&buffer, 1}); !got) co_return failure(got);
  co_return true;
}

Task<Result<void>> Qcow2::discard(uint64_t offset, uint64_t length) {
  if (auto checked = check_write(offset, length); !checked) co_return checked;
  const uint64_t cluster = header().cluster_bytes();
  const uint64_t from = align_up(offset, cluster);
  // The disk may end within a cluster.
  const uint64_t to = offset + length == size_bytes() ? align_up(offset + length, cluster)
                                                      : (offset + length) / cluster * cluster;
  // Does nothing in two cases. In version 2, discarded clusters would show the backing file. A raw
  // data file must read as the disk does, but a discard must not write zeroes there.
  if (from >= to || (header().version == 2 && backing_) ||
      (metadata_.has_raw_data() && !data_file_->zeroes_fast(true)))
    co_return Result<void>();
  co_return co_await clear(from, to - from,
                           metadata_.has_raw_data() ? Clear::kUnmap : Clear::kDiscard);
}

Task<Result<void>> Qcow2::write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) {
  if (auto checked = check_write(offset, length); !checked || length == 0) co_return checked;
  const uint64_t cluster = header().cluster_bytes();
  const uint64_t end = offset + length;
  const uint64_t from = std::min(align_up(offset, cluster), end);
  uint64_t to =
      end == size_bytes() ? align_up(end, cluster) : std::max(end / cluster * cluster, from);
  if (from == end || (header().version == 2 && (backing_ || !may_unmap))) to = from;
  if (from > offset)
    if (auto done = co_await zero_part(offset, from - offset); !done) co_return done;
  if (to > from)
    if (auto done = co_await clear(from, to - from, may_unmap ? Clear::kUnmap : Clear::kKeep);
        !done)
      co_return done;
  if (end > to) co_return co_await zero_part(to, end - to);
  co_return Result<void>();
}

// Writes zeroes where the range does not read as zeroes already.
Task<Result<void>> Qcow2::zero_part(uint64_t offset, uint64_t length) {
  while (length > 0) {
    const std::vector<iovec> zeroes = zero_buffers(length);
    const uint64_t step = total_bytes(zeroes);
    bool zero = false;
    {
      const auto held = co_await lock_clusters(offset, step, false);
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

Task<Result<void>> Qcow2::clear(uint64_t offset, uint64_t length, Clear how) {
  if (!metadata_.writing())
    if (auto begun = co_await metadata_.begin_writing(); !begun) co_return begun;
  const bool hides = backing_ != nullptr;
  const bool keeps = how == Clear::kKeep || data_file_;
  const uint64_t span = metadata_.slice_span();
  while (length > 0) {
    const uint64_t step = std::min(length, span - offset % span);
    const auto held = co_await lock_clusters(offset, step, true);
    if (hides || metadata_.l1()[metadata_.l1_index(offset)] != 0) {
      if (auto ready = co_await metadata_.prepare_change(offset); !ready) co_return ready;
      if (data_file_) {
        Task<Result<void>> cleared = how == Clear::kKeep    ? data_file_->zero(offset, step)
                                     : how == Clear::kUnmap ? data_file_->punch(offset, step)
                                                            : data_file_->discard(offset, step);
        if (auto done = co_await cleared; !done) co_return done;
      }
      auto done = co_await metadata_.clear_entries(offset, step, keeps, hides);
      if (!done) co_return done;
    }
    offset += step;
    length -= step;
  }
  co_return Result<void>();
}

}  // namespace wick::block
