// A qcow2 disk of another size.
#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "block/qcow2.h"

namespace wick::block {

using namespace qcow2;

// Clusters for an L1 table for a disk of `size`, which need not have been written.
Task<Result<uint64_t>> Qcow2::allocate_l1(uint64_t size, uint64_t entries) {
  if (entries * 8 > kMaxL1Bytes)
    co_return with_hint(fail("{}: a disk of {} bytes needs too large a table", path(), size),
                        "copy it to an image with larger clusters: wick image convert");
  co_return co_await refcounts_.allocate_table(
      header_.clusters_for(std::max<uint64_t>(entries, 1) * 8));
}

// Writes a new L1 table to the clusters from `first` on, and then the header's fields
// of it and of the disk's size; those are in one sector, and change at once. The old
// table's clusters are free then, and no more than they: what `l1_` pointed to is the
// caller's.
Task<Result<void>> Qcow2::switch_l1(uint64_t size, uint64_t first, std::vector<uint64_t> l1) {
  const Run old{cluster_of(header_.l1_offset),
                header_.clusters_for(uint64_t{header_.l1_entries} * 8)};
  if (auto done = co_await checkpoint_locked(true); !done) co_return done;
  std::vector<std::byte> bytes(header_.clusters_for(l1.size() * 8) << header_.cluster_bits);
  for (size_t i = 0; i < l1.size(); ++i) store_be(std::span(bytes).subspan(i * 8), l1[i]);
  const iovec buffer = to_iovec(bytes);
  auto written = co_await file_->write(first << header_.cluster_bits, {&buffer, 1});
  if (written) written = co_await file_->sync();
  if (!written) co_return written;

  std::array<std::byte, 24> fields{};  // "Header", bytes 24 to 47
  store_be(std::span(fields), size);
  store_be(std::span(fields).subspan(8), header_.crypt_method);
  store_be(std::span(fields).subspan(12), static_cast<uint32_t>(l1.size()));
  store_be(std::span(fields).subspan(16), first << header_.cluster_bits);
  const iovec field{fields.data(), fields.size()};
  written = co_await file_->write(24, {&field, 1});
  if (written) written = co_await file_->sync();
  if (!written) co_return written;
  header_.size_bytes = size;
  header_.l1_offset = first << header_.cluster_bits;
  header_.l1_entries = static_cast<uint32_t>(l1.size());
  l1_ = std::move(l1);
  co_return co_await refcounts_.decrement(old);
}

Task<Result<void>> Qcow2::resize(uint64_t size) {
  if (options_.read_only) co_return fail_errno(EROFS, "{}", path());
  if (size > kMostDiskBytes)
    co_return with_hint(fail_errno(EFBIG, "{}: a qcow2 disk cannot have {} bytes", path(), size),
                        fmt::format("give it at most {}", kMostDiskBytes));
  if (header_.version == 2 && header_.snapshot_count > 0)
    co_return with_hint(fail("{}: has snapshots, and its version cannot tell their sizes", path()),
                        "delete them, or convert it to compat=1.1");
  if (!writing_)
    if (auto begun = co_await begin_writing(); !begun) co_return begun;
  const uint64_t old_size = header_.size_bytes;
  const uint64_t cluster = header_.cluster_bytes();
  if (size < old_size) {
    // What comes back when it grows again must be zeroes.
    const uint64_t from = align_up(size, cluster);
    const uint64_t to = align_up(old_size, cluster);
    const uint64_t part = std::min(from, size_bytes()) - std::min(size, size_bytes());
    if (part > 0)
      if (auto done = co_await zero_part(size, part); !done) co_return done;
    if (from < to)
      if (auto done = co_await clear(from, to - from, Clear::kUnmap); !done) co_return done;
  }
  if (size > old_size)
    if (auto done = co_await make_room(size); !done) co_return done;
  {
    const auto held = co_await metadata_.exclusive(0, 0);
    if (auto done = co_await checkpoint_locked(true); !done) co_return done;
    std::array<std::byte, 8> field{};  // "Header", bytes 24 to 31
    store_be(std::span(field), size);
    const iovec buffer{field.data(), field.size()};
    auto written = co_await file_->write(24, {&buffer, 1});
    if (written) written = co_await file_->sync();
    if (!written) co_return written;
    header_.size_bytes = size;
  }
  // Tables that map nothing any more.
  for (size_t index = header_.l1_entries_for(size); size < old_size && index < l1_.size();
       ++index) {
    const uint64_t table = l1_[index] & kOffsetMask;
    if (table == 0) continue;
    l2_.forget(table, cluster);
    let_go_run({cluster_of(table), 1}, false);
    l1_[index] = 0;
    dirty_l1_.insert(index);
  }
  if (data_file_ && size < old_size)
    if (auto done = data_file_->truncate(size); !done) co_return done;
  if (auto done = co_await checkpoint(true); !done) co_return done;
  if (size < old_size) co_return co_await cut_tail();
  co_return Result<void>();
}

Task<Result<void>> qcow2::announce_size(File& file, uint64_t size) {
  const auto header = co_await read_header(file);
  if (!header) co_return std::unexpected(header.error());
  if (size < header->size_bytes)
    co_return with_hint(fail("{}: is in use, and cannot become smaller", file.path()),
                        "stop the machine first");
  if (header->l1_entries_for(size) * 8 > kMaxL1Bytes || size > kMostDiskBytes)
    co_return fail_errno(EFBIG, "{}: cannot have {} bytes", file.path(), size);
  if (header->version == 2 && header->snapshot_count > 0)
    co_return fail("{}: has snapshots, and its version cannot tell their sizes", file.path());
  std::array<std::byte, 8> field{};  // "Header", bytes 24 to 31
  store_be(std::span(field), size);
  const iovec buffer{field.data(), field.size()};
  auto written = co_await file.write(24, {&buffer, 1});
  if (written) written = co_await file.sync();
  co_return written;
}

Task<Result<void>> Qcow2::update_size() {
  if (options_.read_only) co_return Result<void>();
  std::array<std::byte, 72> bytes{};
  const iovec buffer = to_iovec(bytes);
  {
    const auto held = co_await metadata_.exclusive(0, 0);  // no table is just moving
    if (auto got = co_await file_->read(0, {&buffer, 1}); !got) co_return got;
  }
  const std::span<const std::byte> now(bytes);
  // The fields of our tables, which only we may change.
  if (load_be<uint32_t>(now.subspan(36)) != header_.l1_entries ||
      load_be<uint64_t>(now.subspan(40)) != header_.l1_offset ||
      load_be<uint64_t>(now.subspan(48)) != header_.refcount_table_offset ||
      load_be<uint32_t>(now.subspan(60)) != header_.snapshot_count)
    co_return with_hint(
        fail("{}: another program has changed the image while it is in use", path()),
        "stop the machine, and look at it with wick image check");
  uint64_t size = load_be<uint64_t>(now.subspan(24));
  if (data_file_ && (header_.autoclear & kRawExternalData) != 0)
    size = std::max(size, data_file_->size_bytes() / 512 * 512);
  if (size < header_.size_bytes)
    co_return with_hint(fail("{}: is in use, and cannot become smaller", path()),
                        fmt::format("give it its size again: wick image resize --in-use {} {}",
                                    path(), header_.size_bytes));
  if (size == header_.size_bytes) co_return Result<void>();
  co_return co_await resize(size);
}

// What must be there before the disk is that large: a data file, an L1 table, and
// zeroes where a longer backing file would show.
Task<Result<void>> Qcow2::make_room(uint64_t size) {
  const uint64_t old_size = header_.size_bytes;
  if (data_file_)
    if (auto done = data_file_->truncate(size); !done) co_return done;
  if (const uint64_t entries = header_.l1_entries_for(size); entries > l1_.size()) {
    const auto held = co_await metadata_.exclusive(0, 0);
    const auto first = co_await allocate_l1(size, entries);
    if (!first) co_return std::unexpected(first.error());
    std::vector<uint64_t> l1 = l1_;
    l1.resize(entries);
    if (auto done = co_await switch_l1(old_size, *first, std::move(l1)); !done) co_return done;
  }
  const uint64_t end = backing_ ? std::min(size, backing_->size_bytes()) : 0;
  if (old_size >= end) co_return Result<void>();
  header_.size_bytes = size;  // in memory only, for the call
  auto done = co_await write_zeroes(old_size, end - old_size, true);
  header_.size_bytes = old_size;
  co_return done;
}

// Gives back the free clusters at the file's end.
Task<Result<void>> Qcow2::cut_tail() {
  const auto held = co_await metadata_.exclusive(0, 0);
  uint64_t end = header_.clusters_for(file_->size_bytes());
  while (end > 0) {
    const auto count = co_await refcounts_.get(end - 1);
    if (!count) co_return std::unexpected(count.error());
    if (*count > 0) break;
    --end;
  }
  const uint64_t bytes = end << header_.cluster_bits;
  if (bytes >= file_->size_bytes()) co_return Result<void>();
  if (auto done = co_await checkpoint_locked(true); !done) co_return done;
  co_return file_->truncate(bytes);
}

}  // namespace wick::block
