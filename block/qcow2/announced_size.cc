#include "block/qcow2/announced_size.h"

#include <array>

#include "base/bytes.h"
#include "block/qcow2/header.h"
#include "block/qcow2/tables.h"

namespace wick::block::qcow2 {

namespace {

// Three fields of 64 bits: the magic, from_bytes, size_bytes.
constexpr uint64_t kMagic = 0x7769'636b'7369'7a65;  // "wicksize"
constexpr uint64_t kBytes = 24;

uint64_t offset_in(const Header& header) { return header.cluster_bytes() - kBytes; }

bool has_room(const Header& header) { return header.used_bytes <= offset_in(header); }

}  // namespace

Task<Result<void>> announce_size(File& file, uint64_t size) {
  const auto header = co_await read_header(file);
  if (!header) co_return std::unexpected(header.error());
  if (size < header->size_bytes)
    co_return with_hint(fail("{}: is in use, and cannot become smaller", file.path()),
                        "stop the machine first");
  if (header->l1_entries_for(size) * 8 > kMaxL1Bytes || size > kMaxDiskBytes)
    co_return fail_errno(EFBIG, "{}: cannot have {} bytes", file.path(), size);
  if (header->version == 2 && header->snapshot_count > 0)
    co_return fail("{}: has snapshots, whose sizes version 2 does not record", file.path());
  if (!has_room(*header))
    co_return with_hint(fail("{}: its header has no room for another size", file.path()),
                        "stop the machine first, and leave out --in-use");
  std::array<std::byte, kBytes> bytes{};
  store_be(std::span(bytes), kMagic);
  store_be(std::span(bytes).subspan(8), header->size_bytes);
  store_be(std::span(bytes).subspan(16), size);
  co_return co_await write_header_fields(file, offset_in(*header), bytes);
}

Task<Result<AnnouncedSize>> read_announced_size(File& file, const Header& header) {
  if (!has_room(header)) co_return AnnouncedSize();
  std::array<std::byte, kBytes> bytes{};
  if (auto got = co_await read_bytes(file, offset_in(header), bytes); !got) co_return failure(got);
  const std::span<const std::byte> fields(bytes);
  AnnouncedSize announced;
  if (load_be<uint64_t>(fields) == kMagic) {
    announced.from_bytes = load_be<uint64_t>(fields.subspan(8));
    announced.size_bytes = load_be<uint64_t>(fields.subspan(16));
  }
  co_return announced;
}

Task<Result<void>> clear_announced_size(File& file, const Header& header) {
  const auto announced = co_await read_announced_size(file, header);
  if (!announced) co_return std::unexpected(announced.error());
  if (announced->size_bytes == 0) co_return Result<void>();
  const std::array<std::byte, kBytes> zeroes{};
  co_return co_await write_bytes(file, offset_in(header), zeroes);
}

}  // namespace wick::block::qcow2
