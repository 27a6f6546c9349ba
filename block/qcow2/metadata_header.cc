// Changes of the header: the disk's size, and where the L1 and snapshot tables are.
#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "block/qcow2/header.h"
#include "block/qcow2/metadata.h"

namespace wick::block::qcow2 {

Task<Result<uint64_t>> Metadata::allocate_l1_locked(uint64_t disk_bytes, uint64_t entries) {
  if (entries * 8 > kMaxL1Bytes)
    co_return with_hint(
        fail("{}: a disk of {} bytes needs a larger L1 table than is possible", path(), disk_bytes),
        "copy it to an image with larger clusters: wick image convert");
  co_return co_await refcounts_.allocate_table(
      header_.clusters_for(std::max<uint64_t>(entries, 1) * 8));
}

// Writes the disk's size and the place of the L1 table. These fields are in one sector, so they
// change at once.
Task<Result<void>> Metadata::write_l1_fields(uint64_t disk_bytes, uint64_t l1_offset,
                                             uint64_t entries) {
  std::array<std::byte, 24> fields{};  // "Header", bytes 24 to 47
  store_be(std::span(fields), disk_bytes);
  store_be(std::span(fields).subspan(8), header_.crypt_method);
  store_be(std::span(fields).subspan(12), static_cast<uint32_t>(entries));
  store_be(std::span(fields).subspan(16), l1_offset);
  co_return co_await write_header_fields(file_, 24, fields);
}

Task<Result<void>> Metadata::write_l1(uint64_t first, const std::vector<uint64_t>& l1) {
  std::vector<uint64_t> whole = l1;
  whole.resize(align_up(l1.size(), header_.cluster_bytes() / 8));
  auto written = co_await checkpoint_locked(true);
  if (written) written = co_await write_table(file_, first << header_.cluster_bits, whole);
  if (written) written = co_await file_.sync();
  co_return written;
}

Task<Result<void>> Metadata::switch_l1_locked(uint64_t disk_bytes, uint64_t first,
                                              std::vector<uint64_t> l1) {
  const ClusterRun old = header_.clusters_of(header_.l1_offset, uint64_t{header_.l1_entries} * 8);
  const uint64_t offset = first << header_.cluster_bits;
  const ClusterRun clusters{first, header_.clusters_for(std::max<uint64_t>(l1.size(), 1) * 8)};
  if (auto written = co_await write_l1(first, l1); !written) {
    co_await refcounts_.decrement(clusters);
    co_return written;
  }
  if (auto written = co_await write_l1_fields(disk_bytes, offset, l1.size()); !written) {
    l1_fields_unknown_ = true;
    other_l1_ = clusters;
    co_await restore_header_locked();  // if it fails, the next checkpoint tries again
    co_return written;
  }
  header_.size_bytes = disk_bytes;
  header_.l1_offset = offset;
  header_.l1_entries = static_cast<uint32_t>(l1.size());
  l1_ = std::move(l1);
  release_clusters(old, false);
  co_return Result<void>();
}

Task<Result<void>> Metadata::write_size_locked(uint64_t disk_bytes) {
  std::array<std::byte, 8> field{};  // "Header", bytes 24 to 31
  store_be(std::span(field), disk_bytes);
  auto written = co_await write_header_fields(file_, 24, field);
  if (!written) {
    l1_fields_unknown_ = true;
    co_await restore_header_locked();
    co_return written;
  }
  header_.size_bytes = disk_bytes;
  co_return Result<void>();
}

Task<Result<void>> Metadata::write_snapshot_fields(uint32_t count, uint64_t table_offset) {
  std::array<std::byte, 12> fields{};  // "Header", bytes 60 to 71
  store_be(std::span(fields), count);
  store_be(std::span(fields).subspan(4), table_offset);
  auto written = co_await write_header_fields(file_, 60, fields);
  if (!written) co_return written;
  header_.snapshot_count = count;
  header_.snapshots_offset = table_offset;
  co_return Result<void>();
}

Task<Result<void>> Metadata::restore_header_locked() {
  if (auto restored = co_await refcounts_.restore_header(); !restored) co_return restored;
  if (!l1_fields_unknown_) co_return Result<void>();
  auto written =
      co_await write_l1_fields(header_.size_bytes, header_.l1_offset, header_.l1_entries);
  if (!written) co_return written;
  l1_fields_unknown_ = false;
  const ClusterRun other = std::exchange(other_l1_, {});
  co_return co_await refcounts_.decrement(other);
}

void Metadata::show_l1(uint64_t disk_bytes, uint64_t l1_offset, std::vector<uint64_t> l1) {
  header_.size_bytes = disk_bytes;
  header_.l1_offset = l1_offset;
  header_.l1_entries = static_cast<uint32_t>(l1.size());
  l1_ = std::move(l1);
}

}  // namespace wick::block::qcow2
