#include "virtio/blk_request.h"

#include <linux/virtio_blk.h>

#include <algorithm>
#include <cstring>

namespace wick::virtio {

namespace {

// The maximum size of a buffer for GET_ID, because the loop fills it without a pause.
constexpr uint64_t kMaxIdBytes = 4096;

uint64_t total_bytes(std::span<const iovec> buffers) {
  uint64_t total = 0;
  for (const iovec& buffer : buffers) total += buffer.iov_len;
  return total;
}

// Returns a copy of the first sizeof(T) bytes. `buffers` must have that many.
template <typename T>
T read_front(std::span<const iovec> buffers) {
  T value;
  auto* to = reinterpret_cast<std::byte*>(&value);
  size_t wanted = sizeof(T);
  for (auto buffer = buffers.begin(); wanted > 0; ++buffer) {
    const size_t part = std::min(wanted, buffer->iov_len);
    if (part > 0) std::memcpy(to, buffer->iov_base, part);
    to += part;
    wanted -= part;
  }
  asm volatile("" ::: "memory");  // the compiler must use the copy, not read again
  return value;
}

// Returns the buffers without their first `skipped` bytes. They must have that many.
std::vector<iovec> without_front(std::span<const iovec> buffers, size_t skipped) {
  while (skipped > 0 && buffers.front().iov_len <= skipped) {
    skipped -= buffers.front().iov_len;
    buffers = buffers.subspan(1);
  }
  std::vector<iovec> rest(buffers.begin(), buffers.end());
  if (skipped > 0) {
    rest.front().iov_base = static_cast<std::byte*>(rest.front().iov_base) + skipped;
    rest.front().iov_len -= skipped;
  }
  return rest;
}

// Returns nullptr if there is none.
std::byte* last_byte(std::span<const iovec> buffers) {
  while (!buffers.empty() && buffers.back().iov_len == 0)
    buffers = buffers.first(buffers.size() - 1);
  if (buffers.empty()) return nullptr;
  return static_cast<std::byte*>(buffers.back().iov_base) + buffers.back().iov_len - 1;
}

// Returns the buffers without their last byte. They must have one.
std::vector<iovec> without_last_byte(std::span<const iovec> buffers) {
  while (buffers.back().iov_len == 0) buffers = buffers.first(buffers.size() - 1);
  const bool whole = buffers.back().iov_len == 1;
  if (whole) buffers = buffers.first(buffers.size() - 1);
  std::vector<iovec> rest(buffers.begin(), buffers.end());
  if (!whole) --rest.back().iov_len;
  return rest;
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

// 5.2.6.2: exactly one segment, because max_discard_seg and max_write_zeroes_seg are 1.
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
      request.data = without_last_byte(writable);
      parse_transfer(request, header.sector, limits);
      break;
    case VIRTIO_BLK_T_OUT:
      request.kind = Kind::kWrite;
      request.data = without_front(readable, sizeof(header));
      parse_transfer(request, header.sector, limits);
      break;
    case VIRTIO_BLK_T_FLUSH:
      request.kind = Kind::kFlush;
      if (!limits.flush) refuse(request, VIRTIO_BLK_S_UNSUPP);
      break;
    case VIRTIO_BLK_T_GET_ID:
      request.kind = Kind::kGetId;
      request.data = without_last_byte(writable);
      if (total_bytes(request.data) < VIRTIO_BLK_ID_BYTES ||
          total_bytes(request.data) > kMaxIdBytes)
        refuse(request, VIRTIO_BLK_S_IOERR);
      break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
      request.kind = header.type == VIRTIO_BLK_T_DISCARD ? Kind::kDiscard : Kind::kWriteZeroes;
      request.data = without_front(readable, sizeof(header));
      parse_segment(request, limits);
      break;
    default:
      refuse(request, VIRTIO_BLK_S_UNSUPP);
  }
  return request;
}

}  // namespace wick::virtio
