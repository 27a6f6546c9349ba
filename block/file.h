// The bytes under a disk image: a regular file or a block device of the host,
// or in tests one that records, fails or forgets.
//
// Thread rule: as for Backend.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/task.h"
#include "block/async_io.h"

namespace wick::block {

enum class Cache {
  kWriteback,  // the host's page cache; a sync makes writes stable
  kNone,       // O_DIRECT; a sync makes writes stable
  kUnsafe,     // the host's page cache; a sync does nothing
};

class File {
 public:
  virtual ~File() = default;

  // Where the file ends now.
  virtual uint64_t size_bytes() const = 0;
  // Whether punch() gives space back to the host.
  virtual bool can_punch() const = 0;
  virtual const std::string& path() const = 0;
  // Whether `offset_bytes` is in a hole, and behind it the first byte that differs.
  struct Piece {
    bool hole = false;
    uint64_t end = 0;
  };
  virtual Piece piece_at(uint64_t offset_bytes) const {
    static_cast<void>(offset_bytes);
    return {false, size_bytes()};
  }

  // Any alignment. What is read behind the end is zeroes; a write there extends
  // a regular file.
  virtual Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;
  virtual Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) = 0;
  // What completed before is on stable storage when it is done.
  virtual Task<Result<void>> sync() = 0;
  // The range then reads as zeroes; a file does not grow by it. punch() gives its
  // space back where can_punch(), zero() keeps it.
  virtual Task<Result<void>> punch(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  virtual Task<Result<void>> zero(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Cuts or extends a regular file.
  virtual Result<void> truncate(uint64_t size_bytes) = 0;
};

// `file` is open for reading, and for writing unless `read_only`, without
// O_DIRECT; `path` serves messages, and opening a second, direct descriptor.
// `io` must outlive the File.
Result<std::unique_ptr<File>> open_host_file(Fd file, const std::string& path, Cache cache,
                                             bool read_only, AsyncIo& io);

// What images of all formats do with a request's buffers.
uint64_t total_bytes(std::span<const iovec> buffers);
// The part of `length_bytes` behind the first `offset_bytes`.
std::vector<iovec> slice(std::span<const iovec> buffers, uint64_t offset_bytes,
                         uint64_t length_bytes);
void fill_zeroes(std::span<const iovec> buffers);
inline iovec to_iovec(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace wick::block
