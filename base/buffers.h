// Lists of buffers, as readv(2) takes them. An empty buffer may have a null address.
//
// Thread rule: any thread; the buffers are the caller's. They may be guest RAM, where the driver
// writes at any time, so read() copies before anything looks at the bytes.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wick {

// Returns the sum of the lengths, which must fit in size_t.
size_t total_bytes(std::span<const iovec> buffers);

// Returns the part of `buffers` that begins at `offset_bytes` and has at most `length_bytes`,
// without empty buffers.
std::vector<iovec> slice(std::span<const iovec> buffers, uint64_t offset_bytes,
                         uint64_t length_bytes);

// Iterates over the bytes of `buffers`, which must outlive it.
class BufferCursor {
 public:
  explicit BufferCursor(std::span<const iovec> buffers) : buffers_(buffers) {}

  // Returns at most `max_bytes` of the next bytes, all in one buffer. Empty at the end.
  std::span<std::byte> front(size_t max_bytes);
  // Skips the first `size_bytes` of the bytes that front() returned.
  void advance(size_t size_bytes) { offset_ += size_bytes; }

  // Copy until `to` is full, until `from` is empty, or until the buffers end. Return the number of
  // bytes copied.
  size_t read(std::span<std::byte> to);
  size_t write(std::span<const std::byte> from);

 private:
  std::span<const iovec> buffers_;
  size_t offset_ = 0;  // the cursor's offset in the first of buffers_
};

}  // namespace wick
