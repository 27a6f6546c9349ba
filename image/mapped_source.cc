#include "image/mapped_source.h"

#include <algorithm>
#include <cstring>

#include "base/buffers.h"
#include "base/bytes.h"

namespace wick::image {

namespace {

constexpr uint64_t kBlocksAtOnce = 1024;

void scatter(std::span<const std::byte> bytes, std::span<const iovec> buffers) {
  for (const iovec& buffer : buffers) {
    if (buffer.iov_len == 0) continue;  // an empty buffer may have no address
    std::memcpy(buffer.iov_base, bytes.data(), buffer.iov_len);
    bytes = bytes.subspan(buffer.iov_len);
  }
}

}  // namespace

Task<Result<void>> MappedSource::read(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length = total_bytes(buffers);
  if (auto checked = check_range(offset, length); !checked) co_return checked;
  std::vector<std::byte> unpacked;
  for (uint64_t done = 0; done < length;) {
    const uint64_t first = (offset + done) / block_bytes_;
    const uint64_t last = (offset + length - 1) / block_bytes_;
    const auto blocks = co_await find(first, std::min(last - first + 1, kBlocksAtOnce));
    if (!blocks) co_return std::unexpected(blocks.error());
    for (const Block& block : *blocks) {
      const uint64_t within = (offset + done) % block_bytes_;
      const uint64_t step = std::min(length - done, block_bytes_ - within);
      const std::vector<iovec> part = slice(buffers, done, step);
      Result<void> got;
      switch (block.kind) {
        case Block::Kind::kAbsent:
        case Block::Kind::kZero:
          block::fill_zeroes(part);
          break;
        case Block::Kind::kData:
          got = co_await file_->read(block.offset_bytes + within, part);
          break;
        case Block::Kind::kCompressed:
          // The last block may end with the disk.
          unpacked.resize(std::min(block_bytes_, size_bytes_ - (offset + done - within)));
          got = co_await unpack(block.offset_bytes, unpacked);
          if (got) scatter(std::span(unpacked).subspan(within, step), part);
      }
      if (!got) co_return got;
      done += step;
    }
  }
  co_return Result<void>();
}

Task<Result<block::Extent>> MappedSource::extent(uint64_t offset, uint64_t length) {
  if (auto checked = check_range(offset, length); !checked) co_return failure(checked);
  const uint64_t first = offset / block_bytes_;
  const uint64_t within = offset % block_bytes_;
  const uint64_t count = length == 0 ? 1 : (within + length - 1) / block_bytes_ + 1;
  const auto blocks = co_await find(first, std::min(count, kBlocksAtOnce));
  if (!blocks) co_return std::unexpected(blocks.error());
  using Kind = Block::Kind;
  const auto [kind, start] = blocks->front();
  size_t alike = 1;
  while (alike < blocks->size() && (*blocks)[alike].kind == kind &&
         (kind != Kind::kData || (*blocks)[alike].offset_bytes == start + alike * block_bytes_))
    ++alike;
  const bool data = kind == Kind::kData || kind == Kind::kCompressed;
  block::Extent extent{.length_bytes = std::min(length, alike * block_bytes_ - within),
                       .present = kind != Kind::kAbsent,
                       .zero = !data,
                       .data = data};
  if (kind == Kind::kCompressed) extent.block_bytes = block_bytes_ - within;
  if (kind == Kind::kData) {
    extent.host_offset = start + within;
    extent.path = file_->path();
    if (tells_holes()) {
      const block::File::Piece piece = file_->piece_at(start + within);
      if (piece.end > start + within)
        extent.length_bytes = std::min(extent.length_bytes, piece.end - start - within);
      extent.zero = piece.hole;
    }
  }
  co_return extent;
}

Task<Result<void>> MappedSource::unpack(uint64_t, std::span<std::byte>) {
  co_return fail_errno(EIO, "{}: unexpected compressed block", path());
}

Task<Result<std::vector<uint32_t>>> MappedSource::load(uint64_t offset, uint64_t count) {
  std::vector<std::byte> bytes(count * 4);
  const iovec buffer = block::to_iovec(bytes);
  if (auto got = co_await file_->read(offset, {&buffer, 1}); !got) co_return failure(got);
  std::vector<uint32_t> values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] = load_le<uint32_t>(std::span(bytes).subspan(i * 4, 4));
  co_return values;
}

}  // namespace wick::image
