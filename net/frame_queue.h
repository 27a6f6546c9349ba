// A bounded queue of frames to the guest, in a byte ring without an allocation per frame.
//
// Thread rule: the owner's thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace wick::net {

class FrameQueue {
 public:
  explicit FrameQueue(size_t capacity_bytes)
      : capacity_bytes_(capacity_bytes),
        ring_(std::make_unique_for_overwrite<std::byte[]>(capacity_bytes)) {}

  // Appends a frame. Returns false, and drops the frame, if there is no room.
  bool push(std::span<const std::byte> frame) {
    const auto size = static_cast<uint32_t>(frame.size());
    if (sizeof(size) + frame.size() > capacity_bytes_ - used_bytes_) return false;
    write(std::as_bytes(std::span(&size, 1)));
    write(frame);
    return true;
  }

  // Returns the size of the next frame in bytes; 0 if there is none.
  size_t front_bytes() const {
    uint32_t size = 0;
    if (used_bytes_ > 0) copy(0, std::as_writable_bytes(std::span(&size, 1)));
    return size;
  }

  // Copies bytes of the next frame from `offset` on; the range must lie inside the frame.
  void read(size_t offset, std::span<std::byte> to) const { copy(sizeof(uint32_t) + offset, to); }

  void pop() {
    const size_t bytes = sizeof(uint32_t) + front_bytes();
    used_bytes_ -= bytes;
    // An empty queue restarts at 0, so that light traffic touches few pages.
    start_ = used_bytes_ == 0 ? 0 : (start_ + bytes) % capacity_bytes_;
  }

  void clear() { start_ = used_bytes_ = 0; }
  bool empty() const { return used_bytes_ == 0; }
  // Returns the bytes in use, including the overhead of each frame.
  size_t used_bytes() const { return used_bytes_; }

 private:
  void write(std::span<const std::byte> from) {
    const size_t at = (start_ + used_bytes_) % capacity_bytes_;
    const size_t first = std::min(from.size(), capacity_bytes_ - at);
    std::memcpy(ring_.get() + at, from.data(), first);
    std::memcpy(ring_.get(), from.data() + first, from.size() - first);
    used_bytes_ += from.size();
  }
  void copy(size_t offset, std::span<std::byte> to) const {
    const size_t at = (start_ + offset) % capacity_bytes_;
    const size_t first = std::min(to.size(), capacity_bytes_ - at);
    std::memcpy(to.data(), ring_.get() + at, first);
    std::memcpy(to.data() + first, ring_.get(), to.size() - first);
  }

  const size_t capacity_bytes_;
  const std::unique_ptr<std::byte[]> ring_;  // not initialized, so unused pages take no memory
  size_t start_ = 0;
  size_t used_bytes_ = 0;
};

}  // namespace wick::net
