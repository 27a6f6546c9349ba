#include "virtio/loop_queue.h"

#include <algorithm>
#include <cstring>

namespace wick::virtio {

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

void LoopQueue::serve(size_t budget, const Step& step) {
  const auto advance = [&] {
    if (!step(*request_, budget)) return;
    std::move(request_->chain).complete(request_->written_bytes);
    request_.reset();
  };
  if (request_) advance();
  ring_.serve([&] { return budget > 0 && !request_; },
              [&](Chain chain) {
                request_.emplace(std::move(chain));
                advance();
              });
  if (budget == 0) ring_.kick();
}

}  // namespace wick::virtio
