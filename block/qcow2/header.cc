#include "block/qcow2/header.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "block/qcow2/tables.h"

namespace wick::block::qcow2 {

Task<Result<Header>> read_header(File& file, Parse parse) {
  // The first read gets the cluster size, the second the whole first cluster.
  std::vector<std::byte> first(std::min<uint64_t>(file.size_bytes(), 1 << kMinClusterBits));
  for (const bool whole : {false, true}) {
    if (whole) first.resize(first_cluster_bytes(first, file.size_bytes()));
    if (auto got = co_await read_bytes(file, 0, first); !got) co_return failure(got);
  }
  co_return parse_header(first, file.size_bytes(), file.path(), parse);
}

Task<Result<void>> write_header(File& file, const Header& header) {
  constexpr uint64_t kSectorBytes = 512;
  auto bytes = format_header(header, kSectorBytes);
  if (!bytes) {
    bytes.error().context = fmt::format("{}: {}", file.path(), bytes.error().context);
    co_return failure(bytes);
  }
  // Trailing zeroes need not be written: behind the header and its names, only an announced size
  // (announced_size.cc) is ever read, and every writer clears that size first.
  while (!bytes->empty() && bytes->back() == std::byte{0}) bytes->pop_back();
  bytes->resize(align_up(bytes->size(), kSectorBytes));
  co_return co_await write_header_fields(file, 0, *bytes);
}

Task<Result<void>> write_header_fields(File& file, uint64_t offset,
                                       std::span<const std::byte> fields) {
  if (auto written = co_await write_bytes(file, offset, fields); !written) co_return written;
  co_return co_await file.sync();
}

Task<Result<void>> write_refcount_table_fields(File& file, uint64_t table_offset,
                                               uint64_t table_clusters) {
  std::array<std::byte, 12> fields{};  // "Header", bytes 48 to 59
  store_be(std::span(fields), table_offset);
  store_be(std::span(fields).subspan(8), static_cast<uint32_t>(table_clusters));
  co_return co_await write_header_fields(file, 48, fields);
}

}  // namespace wick::block::qcow2
