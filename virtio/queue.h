// The device side of the split virtqueue (virtio 1.2, 2.7), and its descriptor chains.
//
// Thread rule: a queue and its chains belong to one loop. The driver may change the
// rings at any time, so each field is read once and then checked; the used index is
// published with release order. All ring indices are 16-bit and wrap (PITFALLS 24).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "virtio/linux_headers.h"

namespace wick::virtio {

class VirtQueue;

// A descriptor chain, one request of the driver: readable buffers, then writable
// buffers, all of them inside guest RAM. A chain is returned to the driver exactly once:
// by complete(), or with length 0 by the destructor. It must not outlive its queue.
class Chain {
 public:
  Chain(Chain&& other) noexcept;
  Chain& operator=(Chain&&) = delete;
  ~Chain();

  std::span<const iovec> readable() const { return std::span(buffers_).first(readable_count_); }
  std::span<const iovec> writable() const { return std::span(buffers_).subspan(readable_count_); }

  // The number of descriptors of the queue's table that the chain uses; an indirect table
  // counts as one.
  size_t descriptor_count() const { return descriptor_count_; }

  // Returns the chain to the driver. `written_bytes` is the number of bytes written to
  // writable(), from its beginning.
  void complete(uint32_t written_bytes) &&;

 private:
  friend class VirtQueue;
  Chain(VirtQueue* queue, uint16_t head) : queue_(queue), head_(head) {}

  VirtQueue* queue_;  // nullptr if the chain was moved from or completed
  uint16_t head_;
  uint16_t descriptor_count_ = 0;
  size_t readable_count_ = 0;
  std::vector<iovec> buffers_;
};

struct QueueLayout {
  uint16_t size = 0;         // the number of entries
  GuestAddress descriptors;  // 2.7.5: aligned to 16
  GuestAddress driver_area;  // 2.7.6, the available ring: aligned to 2
  GuestAddress device_area;  // 2.7.8, the used ring: aligned to 4
  bool event_index = false;  // VIRTIO_F_EVENT_IDX was negotiated
  bool indirect = false;     // VIRTIO_F_INDIRECT_DESC was negotiated
  // The maximum number of buffers in a chain with an indirect table; ignored if less than
  // `size`. 2.7.5.3.1 limits a chain to the queue size. But Linux, when it reduces the queue
  // size, still makes chains as long as the maximum queue size of the device.
  uint16_t max_chain = 0;
};

class VirtQueue {
 public:
  static constexpr uint16_t kMaxSize = 1024;

  // Checks the layout: the rings of every VirtQueue are aligned and inside RAM. `memory` must
  // outlive the queue.
  static Result<VirtQueue> create(const GuestMemory& memory, const QueueLayout& layout);

  // A queue may be moved only before the first pop(), because a Chain points to its queue.
  VirtQueue(VirtQueue&&) noexcept = default;
  VirtQueue& operator=(VirtQueue&&) = delete;

  // Returns the next request, or nothing if there is none. An error means that the driver
  // broke the ring (a loop, an address outside RAM, more chains in use than the ring has
  // entries): the ring can no longer be trusted and the device needs a reset.
  Result<std::optional<Chain>> pop();

  // Asks the driver not to send notifications while the device processes the ring anyway.
  // The driver may ignore this.
  void disable_notifications();
  // Asks the driver to send notifications again. Returns true if the driver has added a chain
  // meanwhile; then the caller must call pop() again, because there may be no notification for
  // that chain.
  bool enable_notifications();

  // Returns true if the driver wants an interrupt for the chains completed since the last
  // call (2.7.7, 2.7.10).
  bool interrupt_needed();

  // The driver sees all chains that are completed between these two calls at the same moment
  // (5.1.6.4).
  void hold_completions() { holding_ = true; }
  void publish_completions();

  uint16_t size() const { return size_; }
  // For vhost, which processes the rings instead of this object: the host addresses of the
  // rings, and the memory that contains them.
  const GuestMemory& memory() const { return *memory_; }
  const void* descriptors() const { return descriptors_; }
  const void* driver_area() const { return driver_area_; }
  const void* device_area() const { return device_area_; }

 private:
  friend class Chain;
  VirtQueue(const GuestMemory& memory, const QueueLayout& layout, std::byte* descriptors,
            std::byte* driver_area, std::byte* device_area);

  Result<void> walk(Chain& chain, uint16_t head) const;
  void take_back(Chain& chain, uint32_t written_bytes);

  // Host addresses of the rings' fields.
  uint16_t* available_flags() const { return u16_at(driver_area_, 0); }
  uint16_t* available_index() const { return u16_at(driver_area_, 2); }
  uint16_t* available_entry(uint16_t i) const { return u16_at(driver_area_, 4 + 2u * i); }
  uint16_t* used_event() const { return u16_at(driver_area_, 4 + 2u * size_); }
  uint16_t* used_flags() const { return u16_at(device_area_, 0); }
  uint16_t* used_index() const { return u16_at(device_area_, 2); }
  uint16_t* available_event() const { return u16_at(device_area_, 4 + 8u * size_); }
  static uint16_t* u16_at(std::byte* area, size_t offset) {
    return reinterpret_cast<uint16_t*>(area + offset);
  }

  // Constant after construction.
  const GuestMemory* memory_;
  const uint16_t size_;
  const uint16_t max_chain_;
  const bool event_index_;
  const bool indirect_;
  std::byte* const descriptors_;
  std::byte* const driver_area_;
  std::byte* const device_area_;

  // Owned by the loop's thread.
  uint16_t outstanding_ = 0;  // chains that were popped and not yet completed
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  bool holding_ = false;
  std::vector<std::vector<iovec>> spare_buffers_;  // empty vectors, whose memory is used again
  uint16_t signalled_used_ = 0;  // next_used_ at the last call of interrupt_needed()
};

}  // namespace wick::virtio
