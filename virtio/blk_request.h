// A request to a block device (virtio 1.2, 5.2.6), parsed from a chain and checked, but
// not executed.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wick::virtio {

constexpr uint64_t kSectorBytes = 512;

// The limits of a device. A request that exceeds a limit fails with UNSUPP or IOERR.
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
  uint8_t refusal = 0;                 // kRefused: the status of the request
  std::byte* status_byte = nullptr;    // in guest RAM; nullptr if the chain has none
  uint32_t written_before_status = 0;  // number of writable bytes in front of the status byte
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  bool unmap = false;       // kWriteZeroes: the device may free the space
  std::vector<iovec> data;  // kRead, kGetId: buffers to fill; kWrite: the data to write

  // Reads each byte of guest memory only once, and writes nothing. The driver may split the header
  // into any number of buffers (2.7.4.1).
  static BlkRequest parse(std::span<const iovec> readable, std::span<const iovec> writable,
                          const BlkLimits& limits);
};

}  // namespace wick::virtio
