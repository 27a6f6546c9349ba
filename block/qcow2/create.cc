#include "block/qcow2/create.h"

#include <algorithm>
#include <bit>

#include "base/bytes.h"
#include "block/qcow2/refcounts.h"

namespace wick::block {

using namespace qcow2;

namespace {

// The layout of the new file, in clusters. Cluster 0 is the header, and the refcount table
// begins at cluster 1.
struct Layout {
  uint64_t table_clusters = 1;  // the size of the refcount table
  uint64_t blocks = 1;          // the number of refcount blocks, which follow the table
  // Where the other parts begin; `end` is the size of the file.
  uint64_t l1 = 0;
  uint64_t l2 = 0;
  uint64_t data = 0;
  uint64_t end = 0;
  uint64_t l2_tables = 0;  // 0: nothing is preallocated
};

bool maps_whole_disk(const Qcow2CreateOptions& options) {
  return options.preallocation != Preallocation::kOff || options.raw_data;
}

Header header_of(const Qcow2CreateOptions& options) {
  Header header;
  header.version = options.version;
  header.cluster_bits = static_cast<uint32_t>(std::countr_zero(options.cluster_bytes));
  header.size_bytes = align_up(options.size_bytes, 512);
  header.refcount_order = static_cast<uint32_t>(std::countr_zero(options.refcount_bits));
  header.compression = options.compression;
  if (options.lazy_refcounts) header.compatible |= kLazyRefcounts;
  if (options.extended_l2) header.incompatible |= kExtendedL2;
  if (options.compression != Compression::kZlib) header.incompatible |= kCompressionType;
  if (!options.data_path.empty()) header.incompatible |= kExternalData;
  if (options.raw_data) header.autoclear |= kRawExternalData;
  header.backing_path = options.backing_path;
  header.backing_format = options.backing_format;
  header.data_path = options.data_path;
  header.l1_entries = static_cast<uint32_t>(header.l1_entries_for(header.size_bytes));
  return header;
}

// Calculates the layout. The loop is needed because the refcount blocks also count their own
// clusters.
Layout lay_out(const Header& header, const Qcow2CreateOptions& options) {
  Layout layout;
  if (maps_whole_disk(options)) layout.l2_tables = header.l1_entries;
  const uint64_t l1_clusters = header.clusters_for(uint64_t{header.l1_entries} * 8);
  const uint64_t data_clusters =
      layout.l2_tables > 0 && !header.external_data() ? header.clusters_for(header.size_bytes) : 0;
  const auto parts = [](uint64_t whole, uint64_t part) { return (whole + part - 1) / part; };
  for (;;) {
    layout.l1 = 1 + layout.table_clusters + layout.blocks;
    layout.l2 = layout.l1 + l1_clusters;
    layout.data = layout.l2 + layout.l2_tables;
    layout.end = layout.data + data_clusters;
    const uint64_t blocks = parts(layout.end, header.refcounts_per_block());
    const uint64_t table_clusters = parts(blocks, header.cluster_bytes() / 8);
    if (blocks <= layout.blocks && table_clusters <= layout.table_clusters) return layout;
    layout.blocks = std::max(layout.blocks, blocks);
    layout.table_clusters = std::max(layout.table_clusters, table_clusters);
  }
}

class Creation {
 public:
  Creation(File& file, Header& header, const Layout& layout)
      : file_(file), header_(header), layout_(layout) {}

  Task<Result<void>> write_refcounts() {
    std::vector<std::byte> table(layout_.table_clusters << header_.cluster_bits);
    std::vector<std::byte> block(header_.cluster_bytes());
    const uint64_t per_block = header_.refcounts_per_block();
    for (uint64_t i = 0; i < layout_.blocks; ++i) {
      const uint64_t place = (1 + layout_.table_clusters + i) << header_.cluster_bits;
      store_be(std::span(table).subspan(i * 8), place);
      const uint64_t counted = std::min(layout_.end - i * per_block, per_block);
      if (i == 0 || counted < per_block) {
        std::ranges::fill(block, std::byte{0});
        for (uint64_t at = 0; at < counted; ++at)
          store_refcount(block, at, header_.refcount_order, 1);
      }
      if (auto done = co_await write_bytes(file_, place, block); !done) co_return done;
    }
    co_return co_await write_bytes(file_, header_.refcount_table_offset, table);
  }

  Task<Result<void>> write_l1() {
    std::vector<std::byte> table(uint64_t{header_.l1_entries} * 8);
    for (uint64_t i = 0; i < layout_.l2_tables; ++i)
      store_be(std::span(table).subspan(i * 8),
               ((layout_.l2 + i) << header_.cluster_bits) | kCopied);
    if (table.empty()) co_return Result<void>();
    co_return co_await write_bytes(file_, header_.l1_offset, table);
  }

  // Maps cluster N of the disk to cluster N of the data.
  Task<Result<void>> write_l2() {
    const uint64_t clusters = header_.clusters_for(header_.size_bytes);
    const uint64_t first = header_.external_data() ? 0 : layout_.data;
    std::vector<std::byte> table(header_.cluster_bytes());
    for (uint64_t i = 0; i < layout_.l2_tables; ++i) {
      std::ranges::fill(table, std::byte{0});
      const uint64_t start = i * header_.l2_entries();
      const uint64_t count = std::min(clusters - start, header_.l2_entries());
      for (uint64_t at = 0; at < count; ++at)
        store_be(std::span(table).subspan(at * header_.l2_entry_bytes()),
                 ((first + start + at) << header_.cluster_bits) | kCopied);
      const uint64_t place = (layout_.l2 + i) << header_.cluster_bits;
      if (auto done = co_await write_bytes(file_, place, table); !done) co_return done;
    }
    co_return Result<void>();
  }

 private:
  File& file_;
  const Header& header_;
  const Layout& layout_;
};

}  // namespace

Result<void> check_create_options(const Qcow2CreateOptions& options) {
  if (!std::has_single_bit(options.cluster_bytes) ||
      options.cluster_bytes < 1ull << kMinClusterBits ||
      options.cluster_bytes > 1ull << kMaxClusterBits)
    return fail("cluster_size must be a power of two from 512 to 2M");
  if (!std::has_single_bit(options.refcount_bits) || options.refcount_bits > 64)
    return fail("refcount_bits must be a power of two from 1 to 64");
  if (options.version < 3) {
    const char* const wanted = options.lazy_refcounts        ? "lazy_refcounts"
                               : options.refcount_bits != 16 ? "refcount_bits other than 16"
                               : options.extended_l2         ? "extended_l2"
                               : !options.data_path.empty()  ? "data_file"
                               : options.compression != Compression::kZlib ? "compression_type=zstd"
                                                                           : nullptr;
    if (wanted != nullptr) return fail("{} needs compat=1.1", wanted);
  }
  if (options.extended_l2 && options.cluster_bytes < 16 << 10)
    return fail("extended_l2 needs a cluster_size of 16k or more");
  if (options.raw_data && options.data_path.empty()) return fail("data_file_raw needs a data_file");
  if (options.raw_data && !options.backing_path.empty())
    return fail("data_file_raw excludes a backing file");
  if (options.preallocation != Preallocation::kOff && !options.backing_path.empty() &&
      !options.extended_l2)
    return fail("preallocation together with a backing file needs extended_l2=on");
  // Rounding size_bytes up might overflow, so it is compared as it is.
  const uint64_t per_table =
      options.cluster_bytes / (options.extended_l2 ? 16 : 8) * options.cluster_bytes;
  if (options.size_bytes > kMaxL1Bytes / 8 * per_table || options.size_bytes > kMaxDiskBytes)
    return fail("{} bytes are too many for clusters of {} bytes", options.size_bytes,
                options.cluster_bytes);
  return {};
}

uint64_t preallocated_bytes(Qcow2CreateOptions options) {
  options.preallocation = Preallocation::kMetadata;
  options.data_path.clear();
  const Header header = header_of(options);
  return lay_out(header, options).end << header.cluster_bits;
}

Task<Result<void>> create_qcow2(File& file, File* data, const Qcow2CreateOptions& options) {
  if (auto checked = check_create_options(options); !checked) co_return checked;
  Header header = header_of(options);
  const Layout layout = lay_out(header, options);
  if (layout.table_clusters << header.cluster_bits >
      std::max(kMaxRefcountTableBytes, header.cluster_bytes()))
    co_return fail("{} bytes are too many to preallocate with clusters of {} bytes",
                   options.size_bytes, options.cluster_bytes);
  header.refcount_table_offset = header.cluster_bytes();
  header.refcount_table_clusters = static_cast<uint32_t>(layout.table_clusters);
  if (header.l1_entries > 0) header.l1_offset = layout.l1 << header.cluster_bits;
  const auto first = format_header(header);
  if (!first) co_return std::unexpected(first.error());

  Creation creation(file, header, layout);
  auto done = co_await creation.write_refcounts();
  if (done) done = co_await creation.write_l1();
  if (done) done = co_await creation.write_l2();
  if (done && layout.end > layout.data) {
    const uint64_t start = layout.data << header.cluster_bits;
    const uint64_t length = (layout.end << header.cluster_bits) - start;
    done = file.truncate(start + length);
    if (done) done = co_await preallocate(file, start, length, options.preallocation);
  }
  if (done && data != nullptr) {
    done = data->truncate(header.size_bytes);
    if (done) done = co_await preallocate(*data, 0, header.size_bytes, options.preallocation);
  }
  if (done) done = co_await write_bytes(file, 0, *first);
  if (done) done = co_await file.sync();
  co_return done;
}

Task<Result<void>> preallocate(File& file, uint64_t offset, uint64_t length,
                               Preallocation preallocation) {
  if (preallocation == Preallocation::kFalloc) co_return co_await file.zero(offset, length);
  if (preallocation != Preallocation::kFull) co_return Result<void>();
  const std::vector<std::byte> zeroes(std::min<uint64_t>(length, 1 << 20));
  for (const uint64_t end = offset + length; offset < end; offset += zeroes.size()) {
    const auto part = std::span(zeroes).first(std::min<uint64_t>(zeroes.size(), end - offset));
    if (auto written = co_await write_bytes(file, offset, part); !written) co_return written;
  }
  co_return Result<void>();
}

}  // namespace wick::block
