#include "virtio/balloon.h"

#include <linux/virtio_balloon.h>

#include <algorithm>
#include <cstddef>

#include "base/bytes.h"

namespace wick::virtio {

namespace {

constexpr uint64_t kPageBytes = 1 << VIRTIO_BALLOON_PFN_SHIFT;
constexpr uint16_t kInflate = 0;
constexpr uint16_t kReporting = 2;

// The budget of a turn in bytes of guest memory, which takes a few milliseconds. Each call of
// madvise(2) costs at least kDiscardCost.
constexpr size_t kTurnBytes = 64 << 20;
constexpr size_t kDiscardCost = 64 << 10;

}  // namespace

void Balloon::set_target(uint64_t size_bytes) {
  const uint64_t pages = std::min(size_bytes, memory_.size_bytes()) / kPageBytes;
  target_pages_ = static_cast<uint32_t>(std::min<uint64_t>(pages, UINT32_MAX));
  loop_.call([this] {
    if (notifier_ != nullptr) notifier_->config_changed();
  });
}

uint64_t Balloon::actual_bytes() const { return actual_pages_ * kPageBytes; }

uint64_t Balloon::features() const {
  return feature_bit(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) | feature_bit(VIRTIO_BALLOON_F_REPORTING);
}

void Balloon::read_config(uint64_t offset, std::span<std::byte> data) {
  virtio_balloon_config config{};  // the offered features define no other fields
  config.num_pages = target_pages_;
  config.actual = actual_pages_;
  copy_config(config, offset, data);
}

void Balloon::write_config(uint64_t offset, std::span<const std::byte> data) {
  if (offset == offsetof(virtio_balloon_config, actual) && data.size() == sizeof(uint32_t)) {
    actual_pages_ = load_le<uint32_t>(data);
    if (changed_) changed_();
  }
}

void Balloon::activate(uint64_t, std::vector<ActiveQueue> queues, DriverNotifier& notifier) {
  loop_.call([&] {
    notifier_ = &notifier;
    for (ActiveQueue& queue : queues) start(std::move(queue));
  });
}

void Balloon::start_queue(ActiveQueue queue, DriverNotifier&) {
  loop_.call([&] { start(std::move(queue)); });
}

void Balloon::start(ActiveQueue queue) {
  const uint16_t index = queue.index;
  queues_[index] = std::make_unique<LoopQueue>(loop_, std::move(queue), *notifier_, name_,
                                               warnings_, [this, index] { serve(index); });
  serve(index);
}

void Balloon::reset() {
  loop_.call([this] {
    for (auto& queue : queues_) queue.reset();
    notifier_ = nullptr;
    actual_pages_ = 0;
  });
}

void Balloon::serve(uint16_t queue) {
  queues_[queue]->serve(kTurnBytes, [this, queue](LoopQueue::Request& request, size_t& budget) {
    if (queue == kInflate) return inflate(request, budget);
    if (queue == kReporting) return discard_reported(request, budget);
    return true;  // 5.5.6.1: deflated pages need no action, because the guest may just use them
  });
}

// 5.5.6.1: a buffer contains any number of 32-bit page numbers in any order. Adjacent pages are
// discarded together.
bool Balloon::inflate(LoopQueue::Request& request, size_t& budget) {
  uint64_t start = 0;
  uint64_t end = 0;
  const auto discard = [&] {
    if (end > start) warn_if_failed(memory_.discard({start}, end - start));
  };
  bool more = true;
  while (more && budget > 0) {
    std::array<std::byte, 4> number;
    more = request.readable.read(number) == number.size();
    const uint64_t page = load_le<uint32_t>(number) * kPageBytes;
    spend(budget, kPageBytes);
    if (more && page == end) {
      end += kPageBytes;
    } else if (more && page + kPageBytes == start) {
      start = page;
    } else {
      discard();
      start = page;
      end = page + kPageBytes;
      spend(budget, kDiscardCost);
    }
  }
  if (more) discard();
  return !more;
}

// 5.5.6.5: the buffers are the free ranges. Without VIRTIO_BALLOON_F_PAGE_POISON the device may
// discard the pages, which then read as zeroes.
bool Balloon::discard_reported(LoopQueue::Request& request, size_t& budget) {
  while (budget > 0) {
    const auto pages = request.writable.front(budget);
    if (pages.empty()) return true;
    warn_if_failed(memory_.discard(pages));
    request.writable.advance(pages.size());
    // Spends whole pages only. The remaining budget limits the next range, which therefore also
    // ends at a page boundary.
    spend(budget, std::max<size_t>(align_up(pages.size(), kPageBytes), kDiscardCost));
  }
  return false;
}

void Balloon::warn_if_failed(const Result<void>& discarded) {
  if (!discarded) warnings_.warn("{}: {}", name_, discarded.error().message());
}

}  // namespace wick::virtio
