#include "virtio/blk_request.h"

#include <linux/virtio_blk.h>

#include <array>
#include <bit>

#include "base/buffers.h"

namespace wick::virtio {

namespace {

// The maximum size of the buffers for GET_ID. The loop fills them in one go, so they must be small.
constexpr uint64_t kMaxIdBytes = 4096;

// Returns a copy of the first sizeof(T) bytes of `buffers`, which must not be shorter.
template <typename T>
T read_front(std::span<const iovec> buffers) {
  std::array<std::byte, sizeof(T)> bytes;
  BufferCursor(buffers).read(bytes);
  return std::bit_cast<T>(bytes);
}

// Returns nullptr if the buffers have no bytes.
std::byte* last_byte(std::span<const iovec> buffers) {
  while (!buffers.empty() && buffers.back().iov_len == 0)
    buffers = buffers.first(buffers.size() - 1);
  if (buffers.empty()) return nullptr;
  return static_cast<std::byte*>(buffers.back().iov_base) + buffers.back().iov_len - 1;
}

bool in_disk(uint64_t sector, uint64_t sectors, const BlkLimits& limits) {
  return sector <= limits.capacity_sectors && sectors <= limits.capacity_sectors - sector;
}

void refuse(BlkRequest& request, uint8_t status) {
  request.kind = BlkRequest::Kind::kRefused;
  request.refusal = status;
}

void parse_transfer(BlkRequest& request, uint64_t sector, const BlkLimits& limits) {
  const uint64_t bytes = total_bytes(request.data);
  if (bytes % kSectorBytes != 0 || !in_disk(sector, bytes / kSectorBytes, limits) ||
      (request.kind == BlkRequest::Kind::kWrite && limits.read_only)) {
    refuse(request, VIRTIO_BLK_S_IOERR);
    return;
  }
  request.offset_bytes = sector * kSectorBytes;
  request.length_bytes = bytes;
}

// 5.2.6.2: a request has exactly one segment, because max_discard_seg and max_write_zeroes_seg are
// 1.
void parse_segment(BlkRequest& request, const BlkLimits& limits) {
  const bool discard = request.kind == BlkRequest::Kind::kDiscard;
  if (!(discard ? limits.discard : limits.write_zeroes)) {
    refuse(request, VIRTIO_BLK_S_UNSUPP);
    return;
  }
  if (total_bytes(request.data) != sizeof(virtio_blk_discard_write_zeroes)) {
    refuse(request, VIRTIO_BLK_S_IOERR);
    return;
  }
  const auto segment = read_front<virtio_blk_discard_write_zeroes>(request.data);
  const uint32_t known_flags = discard ? 0u : uint32_t{VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP};
  if ((segment.flags & ~known_flags) != 0) {
    refuse(request, VIRTIO_BLK_S_UNSUPP);
    return;
  }
  const uint32_t max_sectors =
      discard ? limits.max_discard_sectors : limits.max_write_zeroes_sectors;
  if (segment.num_sectors > max_sectors || !in_disk(segment.sector, segment.num_sectors, limits) ||
      limits.read_only) {
    refuse(request, VIRTIO_BLK_S_IOERR);
    return;
  }
  request.offset_bytes = segment.sector * kSectorBytes;
  request.length_bytes = segment.num_sectors * kSectorBytes;
  request.unmap = (segment.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
}

}  // namespace

BlkRequest BlkRequest::parse(std::span<const iovec> readable, std::span<const iovec> writable,
                             const BlkLimits& limits) {
  BlkRequest request;
  request.status_byte = last_byte(writable);
  if (request.status_byte != nullptr)
    request.written_before_status = static_cast<uint32_t>(total_bytes(writable) - 1);
  if (request.status_byte == nullptr || total_bytes(readable) < sizeof(virtio_blk_outhdr)) {
    refuse(request, VIRTIO_BLK_S_IOERR);
    return request;
  }
  const auto header = read_front<virtio_blk_outhdr>(readable);

  switch (header.type) {
    case VIRTIO_BLK_T_IN:
      request.kind = Kind::kRead;
      request.data = slice(writable, 0, request.written_before_status);
      parse_transfer(request, header.sector, limits);
      break;
    case VIRTIO_BLK_T_OUT:
      request.kind = Kind::kWrite;
      request.data = slice(readable, sizeof(header), total_bytes(readable));
      parse_transfer(request, header.sector, limits);
      break;
    case VIRTIO_BLK_T_FLUSH:
      request.kind = Kind::kFlush;
      if (!limits.flush) refuse(request, VIRTIO_BLK_S_UNSUPP);
      break;
    case VIRTIO_BLK_T_GET_ID:
      request.kind = Kind::kGetId;
      request.data = slice(writable, 0, request.written_before_status);
      if (total_bytes(request.data) < VIRTIO_BLK_ID_BYTES ||
          total_bytes(request.data) > kMaxIdBytes)
        refuse(request, VIRTIO_BLK_S_IOERR);
      break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
      request.kind = header.type == VIRTIO_BLK_T_DISCARD ? Kind::kDiscard : Kind::kWriteZeroes;
      request.data = slice(readable, sizeof(header), total_bytes(readable));
      parse_segment(request, limits);
      break;
    default:
      refuse(request, VIRTIO_BLK_S_UNSUPP);
  }
  return request;
}

}  // namespace wick::virtio
