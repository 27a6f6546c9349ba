// What a driver asks of a block device: one chain, checked and understood, with
// nothing done yet (virtio 1.2, 5.2.6).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wick::virtio {

constexpr uint64_t kSectorBytes = 512;

// What the device offers; requests beyond it are answered UNSUPP or IOERR.
struct BlkLimits {
  uint64_t capacity_sectors = 0;
  bool read_only = false;
  bool flush = false;         // VIRTIO_BLK_F_FLUSH was negotiated
  bool discard = false;       // VIRTIO_BLK_F_DISCARD was negotiated
  bool write_zeroes = false;  // VIRTIO_BLK_F_WRITE_ZEROES was negotiated
  uint32_t max_discard_sectors = 0;
  uint32_t max_write_zeroes_sectors = 0;
};

struct BlkRequest {
  enum class Kind : uint8_t { kRead, kWrite, kFlush, kGetId, kDiscard, kWriteZeroes, kRefused };

  Kind kind = Kind::kRefused;
  uint8_t refusal = 0;                 // kRefused: the status to answer with
  std::byte* status_byte = nullptr;    // in guest RAM; nullptr: the driver gave no room for it
  uint32_t written_before_status = 0;  // writable bytes in front of the status byte
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  bool unmap = false;       // kWriteZeroes: the space may be freed
  std::vector<iovec> data;  // kRead, kGetId: to fill; kWrite: to store

  // Pure: reads guest memory once, writes nothing. The framing is the driver's
  // affair (2.7.4.1): the header may be in any number of buffers.
  static BlkRequest parse(std::span<const iovec> readable, std::span<const iovec> writable,
                          const BlkLimits& limits);
};

}  // namespace wick::virtio
