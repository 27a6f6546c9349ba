// The split virtqueue (virtio 1.2, 2.7), device side, and the chains of
// buffers that come out of it.
//
// Thread rule: a queue and its chains belong to one loop. The driver runs
// meanwhile: everything in the rings is read once, checked, and published with
// release order. All ring indices are 16-bit and wrap (PITFALLS 24).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::virtio {

class VirtQueue;

// 2.7.5, "The Virtqueue Descriptor Table"
struct Descriptor {
  uint64_t address;
  uint32_t length_bytes;
  uint16_t flags;
  uint16_t next;

  static constexpr uint16_t kNext = 1;
  static constexpr uint16_t kWrite = 2;
  static constexpr uint16_t kIndirect = 4;
};
static_assert(sizeof(Descriptor) == 16);

// One request of the driver: buffers to read, then buffers to write, all inside
// guest RAM. Goes back to the driver exactly once: by complete(), or with
// length 0 when it is dropped. It must not outlive its queue.
class Chain {
 public:
  Chain(Chain&& other) noexcept;
  Chain& operator=(Chain&&) = delete;
  ~Chain();

  std::span<const iovec> readable() const { return std::span(buffers_).first(readable_count_); }
  std::span<const iovec> writable() const { return std::span(buffers_).subspan(readable_count_); }

  // How many descriptors of the ring's table it takes: an indirect one is one.
  size_t descriptor_count() const { return descriptor_count_; }

  // `written_bytes`: how much of writable() was filled, from its beginning.
  void complete(uint32_t written_bytes) &&;

 private:
  friend class VirtQueue;
  Chain(VirtQueue* queue, uint16_t head) : queue_(queue), head_(head) {}

  VirtQueue* queue_;  // nullptr when moved from or completed
  uint16_t head_;
  uint16_t descriptor_count_ = 0;
  size_t readable_count_ = 0;
  std::vector<iovec> buffers_;
};

struct QueueLayout {
  uint16_t size = 0;         // entries
  GuestAddress descriptors;  // 2.7.5: aligned to 16
  GuestAddress driver_area;  // 2.7.6, the available ring: aligned to 2
  GuestAddress device_area;  // 2.7.8, the used ring: aligned to 4
  bool event_index = false;  // VIRTIO_F_EVENT_IDX was negotiated
  bool indirect = false;     // VIRTIO_F_INDIRECT_DESC was negotiated
  // Buffers of a chain with an indirect table, if more than `size`: Linux, with a ring that
  // it made smaller, keeps to the device's limits and not to the ring's (2.7.5.3.1).
  uint16_t max_chain = 0;
};

class VirtQueue {
 public:
  static constexpr uint16_t kMaxSize = 1024;

  // Checks the layout: a VirtQueue that exists has rings wholly inside RAM.
  // `memory` must outlive it.
  static Result<VirtQueue> create(const GuestMemory& memory, const QueueLayout& layout);

  // Moves only before the first pop(): a Chain knows its queue's address.
  VirtQueue(VirtQueue&&) noexcept = default;
  VirtQueue& operator=(VirtQueue&&) = delete;

  // The next request, or none. An error is the driver's (a loop, a wild
  // pointer, more chains at once than the ring has room for): the rings can no
  // longer be trusted and the device needs a reset.
  Result<std::optional<Chain>> pop();

  // Asks the driver (it may ignore that) not to notify, while the device looks
  // at the ring by itself anyway.
  void disable_notifications();
  // Asks for them again. True: something came meanwhile, so pop() again,
  // because no notification will come for it.
  bool enable_notifications();

  // After completing: does the driver want an interrupt for what was completed
  // since this last said yes (2.7.7, 2.7.10)?
  bool interrupt_needed();

  // Chains completed between these two reach the driver all at once (5.1.6.4).
  void hold_completions() { holding_ = true; }
  void publish_completions();

  uint16_t size() const { return size_; }
  // For another who works on the rings, instead of this one: where they are in the host's
  // view, and the RAM that they are in.
  const GuestMemory& memory() const { return *memory_; }
  const void* descriptors() const { return descriptors_; }
  const void* driver_area() const { return driver_area_; }
  const void* device_area() const { return device_area_; }

 private:
  friend class Chain;
  VirtQueue(const GuestMemory& memory, const QueueLayout& layout, std::byte* descriptors,
            std::byte* driver_area, std::byte* device_area);

  Result<void> walk(Chain& chain, uint16_t head) const;
  void push_used(uint16_t head, uint32_t written_bytes);

  // Fields of the rings, in the host's view.
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
  uint16_t outstanding_ = 0;  // chains popped and not yet completed
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  bool holding_ = false;
  uint16_t signalled_used_ = 0;  // next_used_ when an interrupt was last wanted
};

}  // namespace wick::virtio
