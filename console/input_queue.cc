#include "console/input_queue.h"

namespace wick::console {

size_t InputQueue::push(std::span<const std::byte> bytes) {
  const auto kept = bytes.first(std::min(bytes.size(), kMaxBytes - waiting_.size()));
  waiting_.insert(waiting_.end(), kept.begin(), kept.end());
  return kept.size();
}

void InputQueue::push_break() {
  // The number of BREAKs is limited, because the guest may never take its input.
  if (breaks_.size() < kRoomBytes / sizeof(uint64_t)) breaks_.push_back(taken_ + waiting_.size());
}

void InputQueue::drain() {
  if (guest_ == nullptr || held_) return;
  for (;;) {
    const size_t before_break =
        breaks_.empty() ? waiting_.size() : static_cast<size_t>(breaks_.front() - taken_);
    if (before_break > 0) {
      const size_t taken = guest_->input(std::span(waiting_).first(before_break));
      waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(taken));
      taken_ += taken;
      if (taken < before_break) return;
    }
    if (breaks_.empty()) return;
    breaks_.pop_front();
    guest_->send_break();
  }
}

}  // namespace wick::console
