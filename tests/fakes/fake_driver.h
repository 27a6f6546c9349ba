// The driver side of one split virtqueue (virtio 1.2, 2.7). It follows the rules, and
// can break each of them on request.
//
//   const auto request = driver.chain().readable(header).writable(512).publish();
//   ...
//   driver.take_used();  // {request.head, written bytes}
//
// The rings are at Options::base. Buffers are taken from the memory after them, which is
// reused in turn, so the number of requests is not limited.
//
// Thread rule: one thread, which may differ from the device's.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/guest_memory.h"
#include "virtio/queue.h"

namespace wick::fakes {

class FakeDriver {
 public:
  struct Options {
    uint16_t size = 16;
    bool event_index = false;
    bool indirect = true;
    GuestAddress base{0x10000};
    uint32_t buffer_area_bytes = 1 << 20;
    uint16_t max_chain = 0;  // QueueLayout::max_chain
  };

  // An entry of the used ring.
  struct Used {
    uint32_t head = 0;
    uint32_t written_bytes = 0;
    bool operator==(const Used&) const = default;
  };

  // A chain in guest memory, with the host addresses of its buffers.
  struct Request {
    uint16_t head = 0;
    std::vector<std::span<std::byte>> readable;
    std::vector<std::span<std::byte>> writable;
  };

  class ChainBuilder {
   public:
    // Adds a buffer that the device reads; it contains `bytes`.
    ChainBuilder& readable(std::span<const std::byte> bytes) {
      const GuestAddress at = driver_.take_buffer(bytes.size());
      std::ranges::copy(bytes, driver_.host(at, bytes.size()).begin());
      return add(at, static_cast<uint32_t>(bytes.size()), 0);
    }
    ChainBuilder& readable(std::string_view text) {
      return readable(std::as_bytes(std::span(text)));
    }
    // Adds a buffer that the device writes, initially filled with 0xee.
    ChainBuilder& writable(uint32_t size_bytes) {
      const GuestAddress at = driver_.take_buffer(size_bytes);
      std::ranges::fill(driver_.host(at, size_bytes), std::byte{0xee});
      return add(at, size_bytes, VRING_DESC_F_WRITE);
    }
    // Add a buffer at any address, in RAM or not.
    ChainBuilder& readable_at(GuestAddress at, uint32_t size_bytes) {
      return add(at, size_bytes, 0);
    }
    ChainBuilder& writable_at(GuestAddress at, uint32_t size_bytes) {
      return add(at, size_bytes, VRING_DESC_F_WRITE);
    }
    // Puts all buffers into an indirect table (2.7.5.3).
    ChainBuilder& indirect() {
      indirect_ = true;
      return *this;
    }

    // Writes the descriptors, but does not make them available.
    Request stage() { return driver_.stage(descriptors_, indirect_); }
    Request publish() {
      Request request = stage();
      driver_.make_available(request.head);
      return request;
    }

   private:
    friend class FakeDriver;
    explicit ChainBuilder(FakeDriver& driver) : driver_(driver) {}
    ChainBuilder& add(GuestAddress at, uint32_t size_bytes, uint16_t flags) {
      descriptors_.push_back({at.value, size_bytes, flags, 0});
      return *this;
    }

    FakeDriver& driver_;
    std::vector<vring_desc> descriptors_;
    bool indirect_ = false;
  };

  FakeDriver(const GuestMemory& memory, Options options)
      : memory_(memory),
        options_(options),
        descriptors_(options.base),
        driver_area_{align_up(descriptors_.value + 16ull * options.size, 16)},
        device_area_{align_up(driver_area_.value + 6 + 2ull * options.size, 16)},
        buffers_{align_up(device_area_.value + 6 + 8ull * options.size, 4096)} {
    forget();
  }

  // Clears the rings and frees all descriptors, for use after a reset of the device.
  void forget() {
    std::ranges::fill(host(descriptors_, buffers_.value - descriptors_.value), std::byte{0});
    next_buffer_ = 0;
    next_available_ = 0;
    kicked_available_ = 0;
    next_used_ = 0;
    free_.clear();
    for (uint16_t i = 0; i < options_.size; ++i) free_.push_back(i);
    chains_.assign(options_.size, {});
  }

  virtio::QueueLayout layout() const {
    return {.size = options_.size,
            .descriptors = descriptors_,
            .driver_area = driver_area_,
            .device_area = device_area_,
            .event_index = options_.event_index,
            .indirect = options_.indirect,
            .max_chain = options_.max_chain};
  }
  const Options& options() const { return options_; }
  GuestAddress buffer_area() const { return buffers_; }

  ChainBuilder chain() { return ChainBuilder(*this); }
  bool has_descriptors(size_t count) const { return free_.size() >= count; }

  // Takes the next chain from the used ring, if any, and frees its descriptors.
  std::optional<Used> take_used() {
    if (used_index() == next_used_) return std::nullopt;
    const auto used = used_entry(next_used_++);
    if (used.head < chains_.size())
      for (const uint16_t index : std::exchange(chains_[used.head], {})) free_.push_back(index);
    return used;
  }

  // --- notification suppression (2.7.7, 2.7.10) ---

  // Returns true if the device wants a notification for the chains published since the last
  // call.
  bool kick_wanted() {
    const uint16_t before = std::exchange(kicked_available_, next_available_);
    if (!options_.event_index)
      return (field(device_area_, 0).load(std::memory_order_seq_cst) & 1) == 0;
    const uint16_t event = available_event();
    return static_cast<uint16_t>(next_available_ - event - 1) <
           static_cast<uint16_t>(next_available_ - before);
  }
  void refuse_interrupts() { field(driver_area_, 0).store(1); }
  void want_interrupts() { field(driver_area_, 0).store(0); }
  // With event index: requests an interrupt when the used index passes `index`.
  void want_interrupt_after(uint16_t index) {
    field(driver_area_, 4 + 2u * options_.size).store(index);
  }
  uint16_t available_event() const {
    return field(device_area_, 4 + 8u * options_.size).load(std::memory_order_seq_cst);
  }
  uint16_t used_flags() const { return field(device_area_, 0).load(); }

  // --- direct access to the rings, to break them ---

  void write_descriptor(uint16_t index, const vring_desc& descriptor) {
    std::memcpy(host(descriptors_ + 16ull * index, 16).data(), &descriptor, 16);
  }
  vring_desc descriptor(uint16_t index) const {
    vring_desc value;
    std::memcpy(&value, host(descriptors_ + 16ull * index, 16).data(), 16);
    return value;
  }
  void make_available(uint16_t head) {
    field(driver_area_, 4 + 2u * (next_available_ % options_.size)).store(head);
    // Sequentially consistent: the driver must publish before it checks for a kick.
    field(driver_area_, 2).store(++next_available_, std::memory_order_seq_cst);
  }
  void set_available_index(uint16_t index) { field(driver_area_, 2).store(index); }
  uint16_t available_index() const { return next_available_; }
  uint16_t used_index() const { return field(device_area_, 2).load(std::memory_order_seq_cst); }
  uint16_t used_seen() const { return next_used_; }
  Used used_entry(uint16_t index) const {
    Used used;
    std::memcpy(&used, host(device_area_ + (4 + 8ull * (index % options_.size)), 8).data(), 8);
    return used;
  }

  GuestAddress take_buffer(size_t size_bytes) {
    if (next_buffer_ + size_bytes > options_.buffer_area_bytes) next_buffer_ = 0;
    const GuestAddress at = buffers_ + next_buffer_;
    next_buffer_ = align_up(next_buffer_ + size_bytes, 16);
    return at;
  }
  std::span<std::byte> host(GuestAddress at, size_t size_bytes) const {
    return size_bytes == 0 ? std::span<std::byte>() : memory_.slice(at, size_bytes).value();
  }

 private:
  std::atomic_ref<uint16_t> field(GuestAddress area, uint64_t offset_bytes) const {
    return std::atomic_ref(*reinterpret_cast<uint16_t*>(host(area + offset_bytes, 2).data()));
  }

  Request stage(std::vector<vring_desc> buffers, bool indirect) {
    Request request;
    for (const vring_desc& buffer : buffers) {
      const auto view = memory_.slice({buffer.addr}, buffer.len);
      auto& list = (buffer.flags & VRING_DESC_F_WRITE) != 0 ? request.writable : request.readable;
      list.push_back(view ? *view : std::span<std::byte>());
    }
    if (indirect) {
      for (size_t i = 0; i + 1 < buffers.size(); ++i) {
        buffers[i].flags |= VRING_DESC_F_NEXT;
        buffers[i].next = static_cast<uint16_t>(i + 1);
      }
      const auto table = std::as_bytes(std::span(buffers));
      const GuestAddress at = take_buffer(table.size());
      std::ranges::copy(table, host(at, table.size()).begin());
      buffers = {{at.value, static_cast<uint32_t>(table.size()), VRING_DESC_F_INDIRECT, 0}};
    }
    std::vector<uint16_t> indices;
    for (size_t i = 0; i < buffers.size(); ++i) {
      indices.push_back(free_.front());
      free_.pop_front();
    }
    for (size_t i = 0; i < buffers.size(); ++i) {
      if (i + 1 < buffers.size()) {
        buffers[i].flags |= VRING_DESC_F_NEXT;
        buffers[i].next = indices[i + 1];
      }
      write_descriptor(indices[i], buffers[i]);
    }
    request.head = indices.front();
    chains_[request.head] = std::move(indices);
    return request;
  }

  const GuestMemory& memory_;
  const Options options_;
  const GuestAddress descriptors_;
  const GuestAddress driver_area_;
  const GuestAddress device_area_;
  const GuestAddress buffers_;

  uint64_t next_buffer_ = 0;
  uint16_t next_available_ = 0;
  uint16_t kicked_available_ = 0;
  uint16_t next_used_ = 0;
  std::deque<uint16_t> free_;                  // descriptors
  std::vector<std::vector<uint16_t>> chains_;  // by head: the descriptors of the chain
};

}  // namespace wick::fakes
