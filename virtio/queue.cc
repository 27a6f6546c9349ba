#include "virtio/queue.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace wick::virtio {

namespace {

constexpr uint64_t kMaxChainBytes = 1ull << 32;

// Vectors with more room than this are not kept in spare_buffers_, which therefore takes at most 1
// MiB per queue.
constexpr size_t kMaxSpareBuffers = 64;

uint16_t load(uint16_t* field, std::memory_order order) {
  return std::atomic_ref(*field).load(order);
}

void store(uint16_t* field, uint16_t value, std::memory_order order) {
  std::atomic_ref(*field).store(value, order);
}

}  // namespace

Chain::Chain(Chain&& other) noexcept
    : queue_(std::exchange(other.queue_, nullptr)),
      head_(other.head_),
      descriptor_count_(other.descriptor_count_),
      readable_count_(other.readable_count_),
      buffers_(std::move(other.buffers_)) {}

Chain::~Chain() {
  if (queue_ != nullptr) queue_->take_back(*this, 0);
}

void Chain::complete(uint32_t written_bytes) && {
  std::exchange(queue_, nullptr)->take_back(*this, written_bytes);
}

Result<VirtQueue> VirtQueue::create(const GuestMemory& memory, const QueueLayout& layout) {
  const size_t size = layout.size;
  if (size == 0 || size > kMaxSize || (size & (size - 1)) != 0)
    return fail("virtqueue: size {} is not a power of two up to {}", size, kMaxSize);
  if (layout.descriptors.value % VRING_DESC_ALIGN_SIZE != 0 ||
      layout.driver_area.value % VRING_AVAIL_ALIGN_SIZE != 0 ||
      layout.device_area.value % VRING_USED_ALIGN_SIZE != 0)
    return fail("virtqueue: rings at {:#x}, {:#x}, {:#x} are not aligned", layout.descriptors.value,
                layout.driver_area.value, layout.device_area.value);
  const auto descriptors = TRY(memory.slice(layout.descriptors, sizeof(vring_desc) * size));
  const auto driver_area = TRY(memory.slice(layout.driver_area, 6 + 2 * size));
  const auto device_area = TRY(memory.slice(layout.device_area, 6 + 8 * size));
  return VirtQueue(memory, layout, descriptors.data(), driver_area.data(), device_area.data());
}

VirtQueue::VirtQueue(const GuestMemory& memory, const QueueLayout& layout, std::byte* descriptors,
                     std::byte* driver_area, std::byte* device_area)
    : memory_(&memory),
      size_(layout.size),
      max_chain_(std::max(layout.size, layout.max_chain)),
      event_index_(layout.event_index),
      indirect_(layout.indirect),
      descriptors_(descriptors),
      driver_area_(driver_area),
      device_area_(device_area) {}

Result<std::optional<Chain>> VirtQueue::pop() {
  const uint16_t available = load(available_index(), std::memory_order_acquire);
  const auto pending = static_cast<uint16_t>(available - next_available_);
  if (pending == 0) return std::nullopt;
  if (pending > size_)
    return fail("virtqueue: available index {} is {} ahead of {}, in a ring of {}", available,
                pending, next_available_, size_);
  if (outstanding_ == size_)
    return fail("virtqueue: more than {} chains in use in a ring of {}", outstanding_, size_);
  const uint16_t head = load(available_entry(next_available_ % size_), std::memory_order_relaxed);
  if (head >= size_) return fail("virtqueue: head {} is not in a table of {}", head, size_);

  ++next_available_;
  ++outstanding_;
  Chain chain(this, head);
  if (!spare_buffers_.empty()) {
    chain.buffers_ = std::move(spare_buffers_.back());
    spare_buffers_.pop_back();
  }
  if (auto walked = walk(chain, head); !walked) {
    chain.queue_ = nullptr;  // so that the destructor does not use the ring, which is broken
    return std::unexpected(std::move(walked).error());
  }
  return chain;
}

// Collects the buffers of a chain (2.7.5.2 to 2.7.5.3.1). The walk is bounded by the queue's
// size, by max_chain_ in an indirect table, and by 2^32 bytes.
Result<void> VirtQueue::walk(Chain& chain, uint16_t head) const {
  std::byte* table = descriptors_;
  size_t table_size = size_;
  size_t index = head;
  bool in_indirect = false;
  uint64_t total_bytes = 0;
  for (;;) {
    if (in_indirect ? chain.buffers_.size() == max_chain_ : chain.descriptor_count_ == size_)
      return fail("virtqueue: chain {} has a loop or is too long", head);
    vring_desc descriptor;
    std::memcpy(&descriptor, table + index * sizeof(vring_desc), sizeof(descriptor));
    // The compiler must use the copy, and not read guest memory again.
    asm volatile("" ::: "memory");
    if (!in_indirect) ++chain.descriptor_count_;

    if ((descriptor.flags & VRING_DESC_F_INDIRECT) != 0) {
      if (in_indirect) return fail("virtqueue: chain {} nests indirect tables", head);
      if (!indirect_)
        return fail("virtqueue: chain {} is indirect, which was not negotiated", head);
      if ((descriptor.flags & VRING_DESC_F_NEXT) != 0)
        return fail("virtqueue: chain {} continues after an indirect table", head);
      if (descriptor.len == 0 || descriptor.len % sizeof(vring_desc) != 0)
        return fail("virtqueue: an indirect table of {} bytes is not valid", descriptor.len);
      table = TRY(memory_->slice({descriptor.addr}, descriptor.len)).data();
      table_size = descriptor.len / sizeof(vring_desc);
      index = 0;
      in_indirect = true;
      continue;
    }

    std::byte* const buffer = memory_->find({descriptor.addr}, descriptor.len);
    if (buffer == nullptr)
      return fail("virtqueue: chain {} has a buffer at {:#x} + {:#x}, which is not RAM", head,
                  descriptor.addr, descriptor.len);
    const bool writable = (descriptor.flags & VRING_DESC_F_WRITE) != 0;
    if (!writable && chain.readable_count_ != chain.buffers_.size())
      return fail("virtqueue: chain {} has a readable buffer after a writable one", head);
    total_bytes += descriptor.len;
    if (total_bytes > kMaxChainBytes)
      return fail("virtqueue: chain {} is longer than 2^32 bytes", head);
    chain.buffers_.push_back({buffer, descriptor.len});
    if (!writable) ++chain.readable_count_;

    if ((descriptor.flags & VRING_DESC_F_NEXT) == 0) return {};
    index = descriptor.next;
    if (index >= table_size)
      return fail("virtqueue: descriptor {} is not in a table of {}", index, table_size);
  }
}

void VirtQueue::take_back(Chain& chain, uint32_t written_bytes) {
  const vring_used_elem element{chain.head_, written_bytes};
  std::memcpy(device_area_ + 4 + sizeof(element) * (next_used_ % size_), &element, sizeof(element));
  ++next_used_;
  --outstanding_;
  if (!holding_) publish_completions();
  if (chain.buffers_.capacity() > kMaxSpareBuffers) return;
  chain.buffers_.clear();
  spare_buffers_.push_back(std::move(chain.buffers_));
}

void VirtQueue::publish_completions() {
  holding_ = false;
  store(used_index(), next_used_, std::memory_order_release);
}

void VirtQueue::disable_notifications() {
  // With event indices nothing needs to be written: while avail_event has an old value, the driver
  // sends no notifications.
  if (!event_index_) store(used_flags(), VRING_USED_F_NO_NOTIFY, std::memory_order_relaxed);
}

bool VirtQueue::enable_notifications() {
  // Sequentially consistent, so that no notification is lost: the driver publishes its index and
  // then reads this field; the device writes this field and then reads the driver's index. At least
  // one side sees the other's write.
  if (event_index_) {
    store(available_event(), next_available_, std::memory_order_seq_cst);
  } else {
    store(used_flags(), 0, std::memory_order_seq_cst);
  }
  return load(available_index(), std::memory_order_seq_cst) != next_available_;
}

bool VirtQueue::interrupt_needed() {
  if (next_used_ == signalled_used_) return false;
  const uint16_t before = std::exchange(signalled_used_, next_used_);
  // The driver must see the used index before the device reads whether the driver wants interrupts.
  // On x86 only a locked operation orders a store before a later load.
  store(used_index(), next_used_, std::memory_order_seq_cst);
  if (event_index_)
    return vring_need_event(load(used_event(), std::memory_order_seq_cst), next_used_, before) != 0;
  return (load(available_flags(), std::memory_order_seq_cst) & VRING_AVAIL_F_NO_INTERRUPT) == 0;
}

}  // namespace wick::virtio
