#include "base/buffers.h"

#include <algorithm>
#include <cstring>

namespace wick {

size_t total_bytes(std::span<const iovec> buffers) {
  size_t total = 0;
  for (const iovec& buffer : buffers) total += buffer.iov_len;
  return total;
}

std::vector<iovec> slice(std::span<const iovec> buffers, uint64_t offset, uint64_t length) {
  std::vector<iovec> part;
  part.reserve(buffers.size());
  for (const iovec& buffer : buffers) {
    if (length == 0) break;
    const uint64_t skipped = std::min<uint64_t>(offset, buffer.iov_len);
    const uint64_t taken = std::min<uint64_t>(length, buffer.iov_len - skipped);
    if (taken > 0) part.push_back({static_cast<std::byte*>(buffer.iov_base) + skipped, taken});
    offset -= skipped;
    length -= taken;
  }
  return part;
}

std::span<std::byte> BufferCursor::front(size_t max_bytes) {
  while (!buffers_.empty() && offset_ == buffers_.front().iov_len) {
    buffers_ = buffers_.subspan(1);
    offset_ = 0;
  }
  if (buffers_.empty()) return {};
  const iovec& buffer = buffers_.front();
  return {static_cast<std::byte*>(buffer.iov_base) + offset_,
          std::min(max_bytes, buffer.iov_len - offset_)};
}

size_t BufferCursor::read(std::span<std::byte> to) {
  size_t copied = 0;
  while (copied < to.size()) {
    const auto from = front(to.size() - copied);
    if (from.empty()) break;
    std::memcpy(to.data() + copied, from.data(), from.size());
    copied += from.size();
    advance(from.size());
  }
  // The compiler must use the copy, because the driver may still write (PITFALLS 27).
  asm volatile("" ::: "memory");
  return copied;
}

size_t BufferCursor::write(std::span<const std::byte> from) {
  size_t copied = 0;
  while (copied < from.size()) {
    const auto to = front(from.size() - copied);
    if (to.empty()) break;
    std::memcpy(to.data(), from.data() + copied, to.size());
    copied += to.size();
    advance(to.size());
  }
  return copied;
}

}  // namespace wick
