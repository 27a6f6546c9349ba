// A qcow2 disk of another size.
#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "block/qcow2/announced_size.h"
#include "block/qcow2/header.h"
#include "block/qcow2/qcow2.h"

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

// Writes the header's fields of the disk's size and of the L1 table; they are in one sector,
// and change at once.
Task<Result<void>> Qcow2::write_l1_fields(uint64_t size, uint64_t l1_offset, uint64_t entries) {
  std::array<std::byte, 24> fields{};  // "Header", bytes 24 to 47
  store_be(std::span(fields), size);
  store_be(std::span(fields).subspan(8), header_.crypt_method);
  store_be(std::span(fields).subspan(12), static_cast<uint32_t>(entries));
  store_be(std::span(fields).subspan(16), l1_offset);
  const iovec field{fields.data(), fields.size()};
  auto written = co_await file_->write(24, {&field, 1});
  if (written) written = co_await file_->sync();
  co_return written;
}

Task<Result<void>> Qcow2::write_l1(uint64_t first, const std::vector<uint64_t>& l1) {
  std::vector<std::byte> bytes(header_.clusters_for(l1.size() * 8) << header_.cluster_bits);
  for (size_t i = 0; i < l1.size(); ++i) store_be(std::span(bytes).subspan(i * 8), l1[i]);
  const iovec buffer = to_iovec(bytes);
  auto written = co_await checkpoint_locked(true);
  if (written) written = co_await file_->write(first << header_.cluster_bits, {&buffer, 1});
  if (written) written = co_await file_->sync();
  co_return written;
}

// Writes a new L1 table to the clusters from `first` on, which allocate_l1() gave, and then
// to the header that it is there. The old table's clusters are let go then, and no more than
// they: what `l1_` pointed to is the caller's. If it fails, the new ones are free, at once
// or when restore_l1_fields() succeeds.
Task<Result<void>> Qcow2::switch_l1(uint64_t size, uint64_t first, std::vector<uint64_t> l1) {
  const Run old{cluster_of(header_.l1_offset),
                header_.clusters_for(uint64_t{header_.l1_entries} * 8)};
  const uint64_t offset = first << header_.cluster_bits;
  const Run clusters{first, header_.clusters_for(std::max<uint64_t>(l1.size(), 1) * 8)};
  if (auto written = co_await write_l1(first, l1); !written) {
    co_await refcounts_.decrement(clusters);
    co_return written;
  }
  if (auto written = co_await write_l1_fields(size, offset, l1.size()); !written) {
    // Either table may be the header's now.
    l1_fields_unknown_ = true;
    other_l1_ = clusters;
    co_await restore_l1_fields();  // if it fails, the next checkpoint tries again
    co_return written;
  }
  header_.size_bytes = size;
  header_.l1_offset = offset;
  header_.l1_entries = static_cast<uint32_t>(l1.size());
  l1_ = std::move(l1);
  release_clusters(old, false);
  co_return Result<void>();
}

// Makes the header in the file name the size and the L1 table that are in use.
Task<Result<void>> Qcow2::restore_l1_fields() {
  if (!l1_fields_unknown_) co_return Result<void>();
  auto written =
      co_await write_l1_fields(header_.size_bytes, header_.l1_offset, header_.l1_entries);
  if (!written) co_return written;
  l1_fields_unknown_ = false;
  const Run other = std::exchange(other_l1_, {});
  co_return co_await refcounts_.decrement(other);
}

// Writes the disk's size to the header.
Task<Result<void>> Qcow2::write_size(uint64_t size) {
  std::array<std::byte, 8> field{};  // "Header", bytes 24 to 31
  store_be(std::span(field), size);
  const iovec buffer{field.data(), field.size()};
  auto written = co_await file_->write(24, {&buffer, 1});
  if (written) written = co_await file_->sync();
  co_return written;
}

Task<Result<void>> Qcow2::resize(uint64_t size) {
  if (options_.read_only) co_return fail_errno(EROFS, "{}", path());
  if (size > kMaxDiskBytes)
    co_return with_hint(fail_errno(EFBIG, "{}: a qcow2 disk cannot have {} bytes", path(), size),
                        fmt::format("give it at most {}", kMaxDiskBytes));
  if (header_.version == 2 && header_.snapshot_count > 0)
    co_return with_hint(fail("{}: has snapshots, and its version cannot tell their sizes", path()),
                        "delete them, or convert it to compat=1.1");
  if (!writing_)
    if (auto begun = co_await begin_writing(); !begun) co_return begun;
  {
    // make_room() sets a size in memory that must not be restored.
    const auto held = co_await metadata_.exclusive(0, 0);
    if (auto restored = co_await restore_l1_fields(); !restored) co_return restored;
  }
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
    // It must not come true when the disk once has its old size again.
    if (auto done = co_await clear_announced_size(*file_, header_); !done) co_return done;
    if (auto written = co_await write_size(size); !written) {
      l1_fields_unknown_ = true;  // until the old size is there, with which the disk goes on
      co_await restore_l1_fields();
      co_return written;
    }
    header_.size_bytes = size;
  }
  // Tables that map nothing any more.
  for (size_t index = header_.l1_entries_for(size); size < old_size && index < l1_.size();
       ++index) {
    const uint64_t table = l1_[index] & kOffsetMask;
    if (table == 0) continue;
    l2_.forget(table, cluster);
    release_clusters({cluster_of(table), 1}, false);
    l1_[index] = 0;
    dirty_l1_.insert(index);
  }
  if (data_file_ && size < old_size)
    if (auto done = data_file_->truncate(size); !done) co_return done;
  if (auto done = co_await checkpoint(true); !done) co_return done;
  if (size < old_size) co_return co_await cut_tail();
  co_return Result<void>();
}

Task<Result<void>> Qcow2::update_size() {
  if (options_.read_only) co_return Result<void>();
  std::array<std::byte, 72> bytes{};
  const iovec buffer = to_iovec(bytes);
  uint64_t size = 0;
  {
    const auto held = co_await metadata_.exclusive(0, 0);  // no table is just moving
    if (auto restored = co_await restore_l1_fields(); !restored) co_return restored;
    if (auto got = co_await file_->read(0, {&buffer, 1}); !got) co_return got;
    const auto announced = co_await read_announced_size(*file_, header_);
    if (!announced) co_return std::unexpected(announced.error());
    size = announced->from_bytes == header_.size_bytes ? announced->size_bytes : 0;
  }
  const std::span<const std::byte> now(bytes);
  // The fields of the disk and of our tables, which only we may change.
  if (load_be<uint64_t>(now.subspan(24)) != header_.size_bytes ||
      load_be<uint32_t>(now.subspan(36)) != header_.l1_entries ||
      load_be<uint64_t>(now.subspan(40)) != header_.l1_offset ||
      load_be<uint64_t>(now.subspan(48)) != header_.refcount_table_offset ||
      load_be<uint32_t>(now.subspan(60)) != header_.snapshot_count)
    co_return with_hint(
        fail("{}: another program has changed the image while it is in use", path()),
        "stop the machine, and look at it with wick image check");
  if (raw_data()) size = std::max(size, data_file_->size_bytes());
  size = size / 512 * 512;
  if (size <= header_.size_bytes) co_return Result<void>();
  co_return co_await resize(size);
}

// What must be there before the disk is that large: a data file, an L1 table, and zeroes
// where something else would show. That is a longer backing file, and what the last cluster
// has behind the disk's old end.
Task<Result<void>> Qcow2::make_room(uint64_t size) {
  const uint64_t old_size = header_.size_bytes;
  const uint64_t data_end = raw_data() ? std::min(size, data_file_->size_bytes()) : 0;
  if (data_file_ && data_file_->size_bytes() < size)
    if (auto done = data_file_->truncate(size); !done) co_return done;
  if (const uint64_t entries = header_.l1_entries_for(size); entries > l1_.size()) {
    const auto held = co_await metadata_.exclusive(0, 0);
    const auto first = co_await allocate_l1(size, entries);
    if (!first) co_return std::unexpected(first.error());
    std::vector<uint64_t> l1 = l1_;
    l1.resize(entries);
    if (auto done = co_await switch_l1(old_size, *first, std::move(l1)); !done) co_return done;
  }
  uint64_t zero_end = backing_ ? std::min(size, backing_->size_bytes()) : 0;
  if (!raw_data())
    zero_end = std::max(zero_end, std::min(size, align_up(old_size, header_.cluster_bytes())));
  header_.size_bytes = size;  // in memory only, for the calls
  Result<void> done;
  if (old_size < zero_end) done = co_await write_zeroes(old_size, zero_end - old_size, true);
  if (done && old_size < data_end) done = co_await map_raw_data(old_size, data_end);
  header_.size_bytes = old_size;
  co_return done;
}

// Maps what is in a data file that is the disk, byte by byte. Where there is nothing but
// zeroes the disk reads so without.
Task<Result<void>> Qcow2::map_raw_data(uint64_t offset, uint64_t end) {
  std::vector<std::byte> bytes(1 << 20);
  while (offset < end) {
    const File::Piece piece = data_file_->piece_at(offset);
    uint64_t step = std::min(end, std::max(piece.end, offset + 1)) - offset;
    if (!piece.hole) {
      step = std::min<uint64_t>(step, bytes.size());
      const auto part = std::span(bytes).first(step);
      const iovec buffer = to_iovec(part);
      auto done = co_await data_file_->read(offset, {&buffer, 1});
      if (done && !is_zero(part)) done = co_await write(offset, {&buffer, 1});
      if (!done) co_return done;
    }
    offset += step;
  }
  co_return Result<void>();
}

Task<Result<void>> Qcow2::unmap_behind_end() {
  if (auto checked = check_write(0, 0); !checked) co_return checked;
  const uint64_t table_span = header_.l2_entries() << header_.cluster_bits;
  // From the end that the guest sees: a size that is no multiple of 512 is rounded down.
  uint64_t offset = align_up(size_bytes(), header_.cluster_bytes());
  for (uint64_t index = l1_index(offset); index < l1_.size(); ++index) {
    const uint64_t end = (index + 1) * table_span;
    if (l1_[index] != 0)
      if (auto done = co_await clear(offset, end - offset, Clear::kForget); !done) co_return done;
    offset = end;
  }
  co_return Result<void>();
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
