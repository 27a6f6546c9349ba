#include "block/qcow2/resize.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "block/qcow2/announced_size.h"

namespace wick::block::qcow2 {

namespace {

// Maps what a raw data file contains. Where it has only zeroes, the disk reads as zeroes
// without a mapping.
Task<Result<void>> map_raw_data(Qcow2& disk, uint64_t offset, uint64_t end) {
  File& file = disk.metadata().data();
  std::vector<std::byte> bytes(1 << 20);
  while (offset < end) {
    const File::Piece piece = file.piece_at(offset);
    uint64_t step = std::min(end, std::max(piece.end, offset + 1)) - offset;
    if (!piece.hole) {
      step = std::min<uint64_t>(step, bytes.size());
      const auto part = std::span(bytes).first(step);
      const iovec buffer = to_iovec(part);
      auto done = co_await file.read(offset, {&buffer, 1});
      if (done && !is_zero(part)) done = co_await disk.write(offset, {&buffer, 1});
      if (!done) co_return done;
    }
    offset += step;
  }
  co_return Result<void>();
}

Task<Result<void>> extend_l1(Metadata& metadata, uint64_t size) {
  const Header& header = metadata.header();
  const uint64_t entries = header.l1_entries_for(size);
  if (entries <= metadata.l1().size()) co_return Result<void>();
  const auto held = co_await metadata.lock();
  const auto first = co_await metadata.allocate_l1_locked(size, entries);
  if (!first) co_return std::unexpected(first.error());
  std::vector<uint64_t> l1 = metadata.l1();
  l1.resize(entries);
  co_return co_await metadata.switch_l1_locked(header.size_bytes, *first, std::move(l1));
}

// Prepares the disk to become larger: extends a data file and the L1 table, and writes zeroes where
// other data would appear: where the backing file is longer than the old disk, and in the last
// cluster behind the old end.
Task<Result<void>> make_room(Qcow2& disk, uint64_t size) {
  Metadata& metadata = disk.metadata();
  const uint64_t old_size = metadata.header().size_bytes;
  File* const data_file = metadata.data_file();
  const bool raw_data = metadata.has_raw_data();
  const uint64_t data_end = raw_data ? std::min(size, data_file->size_bytes()) : 0;
  if (data_file != nullptr && data_file->size_bytes() < size)
    if (auto done = data_file->truncate(size); !done) co_return done;
  if (auto done = co_await extend_l1(metadata, size); !done) co_return done;
  const Backend* const backing = disk.backing();
  uint64_t zero_end = backing != nullptr ? std::min(size, backing->size_bytes()) : 0;
  if (!raw_data) {
    const uint64_t cluster_end = align_up(old_size, metadata.header().cluster_bytes());
    zero_end = std::max(zero_end, std::min(size, cluster_end));
  }
  metadata.set_size_in_memory(size);
  Result<void> done;
  if (old_size < zero_end) done = co_await disk.write_zeroes(old_size, zero_end - old_size, true);
  if (done && old_size < data_end) done = co_await map_raw_data(disk, old_size, data_end);
  metadata.set_size_in_memory(old_size);
  co_return done;
}

// Writes zeroes to what will be behind the disk's end, since the disk may grow again.
Task<Result<void>> clear_behind(Qcow2& disk, uint64_t size) {
  const Header& header = disk.header();
  const uint64_t from = align_up(size, header.cluster_bytes());
  const uint64_t to = align_up(header.size_bytes, header.cluster_bytes());
  const uint64_t part_end = std::min(from, disk.size_bytes());
  if (size < part_end)
    if (auto done = co_await disk.write_zeroes(size, part_end - size, true); !done) co_return done;
  if (from < to) co_return co_await disk.clear(from, to - from, Qcow2::Clear::kUnmap);
  co_return Result<void>();
}

Task<Result<void>> change_size(Metadata& metadata, uint64_t size) {
  const auto held = co_await metadata.lock();
  if (auto done = co_await metadata.checkpoint_locked(true); !done) co_return done;
  // The announced size is for the current size. It must not take effect if the disk gets the
  // current size again later.
  auto cleared = co_await clear_announced_size(metadata.file(), metadata.header());
  if (!cleared) co_return cleared;
  co_return co_await metadata.write_size_locked(size);
}

// Cuts off the free clusters at the file's end.
Task<Result<void>> cut_tail(Metadata& metadata) {
  const Header& header = metadata.header();
  File& file = metadata.file();
  const auto held = co_await metadata.lock();
  uint64_t end = header.clusters_for(file.size_bytes());
  while (end > 0) {
    const auto count = co_await metadata.refcounts().get(end - 1);
    if (!count) co_return std::unexpected(count.error());
    if (*count > 0) break;
    --end;
  }
  const uint64_t bytes = end << header.cluster_bits;
  if (bytes >= file.size_bytes()) co_return Result<void>();
  if (auto done = co_await metadata.checkpoint_locked(true); !done) co_return done;
  co_return file.truncate(bytes);
}

// Drops the tables that map nothing after the disk was cut, and shortens the files.
Task<Result<void>> shorten_files(Metadata& metadata) {
  const Header& header = metadata.header();
  const uint64_t size = header.size_bytes;
  for (uint64_t index = header.l1_entries_for(size); index < metadata.l1().size(); ++index)
    if ((metadata.l1()[index] & kOffsetMask) != 0) metadata.drop_l2_table(index, false);
  if (File* const data = metadata.data_file())
    if (auto done = data->truncate(size); !done) co_return done;
  if (auto done = co_await metadata.checkpoint(true); !done) co_return done;
  co_return co_await cut_tail(metadata);
}

}  // namespace

Task<Result<void>> resize(Qcow2& disk, uint64_t size) {
  Metadata& metadata = disk.metadata();
  const Header& header = metadata.header();
  if (metadata.read_only()) co_return fail_errno(EROFS, "{}", disk.path());
  if (size > kMaxDiskBytes)
    co_return with_hint(
        fail_errno(EFBIG, "{}: a qcow2 disk cannot have {} bytes", disk.path(), size),
        fmt::format("give it at most {}", kMaxDiskBytes));
  if (header.version == 2 && header.snapshot_count > 0)
    co_return with_hint(
        fail("{}: has snapshots, whose sizes version 2 does not record", disk.path()),
        "delete them, or convert it to compat=1.1");
  if (auto begun = co_await metadata.begin_writing(); !begun) co_return begun;
  {
    // Restores the header before make_room() changes the size in memory, because
    // restore_header_locked() writes that size to the file.
    const auto held = co_await metadata.lock();
    if (auto restored = co_await metadata.restore_header_locked(); !restored) co_return restored;
  }
  const uint64_t old_size = header.size_bytes;
  if (size < old_size)
    if (auto done = co_await clear_behind(disk, size); !done) co_return done;
  if (size > old_size)
    if (auto done = co_await make_room(disk, size); !done) co_return done;
  if (auto done = co_await change_size(metadata, size); !done) co_return done;
  if (size < old_size) co_return co_await shorten_files(metadata);
  co_return co_await metadata.checkpoint(true);
}

Task<Result<void>> apply_announced_size(Qcow2& disk) {
  Metadata& metadata = disk.metadata();
  const Header& header = metadata.header();
  if (metadata.read_only()) co_return Result<void>();
  std::array<std::byte, 72> bytes{};
  uint64_t size = 0;
  {
    const auto held = co_await metadata.lock();  // no table moves meanwhile
    if (auto restored = co_await metadata.restore_header_locked(); !restored) co_return restored;
    if (auto got = co_await read_bytes(metadata.file(), 0, bytes); !got) co_return got;
    const auto announced = co_await read_announced_size(metadata.file(), header);
    if (!announced) co_return std::unexpected(announced.error());
    size = announced->from_bytes == header.size_bytes ? announced->size_bytes : 0;
  }
  const std::span<const std::byte> now(bytes);
  // Only the process that has the disk open for writing may change these fields.
  if (load_be<uint64_t>(now.subspan(24)) != header.size_bytes ||
      load_be<uint32_t>(now.subspan(36)) != header.l1_entries ||
      load_be<uint64_t>(now.subspan(40)) != header.l1_offset ||
      load_be<uint64_t>(now.subspan(48)) != header.refcount_table_offset ||
      load_be<uint32_t>(now.subspan(60)) != header.snapshot_count)
    co_return with_hint(
        fail("{}: another program has changed the image while it is in use", disk.path()),
        "stop the machine, and look at it with wick image check");
  if (metadata.has_raw_data()) size = std::max(size, metadata.data().size_bytes());
  size = size / 512 * 512;
  if (size <= header.size_bytes) co_return Result<void>();
  co_return co_await resize(disk, size);
}

}  // namespace wick::block::qcow2
