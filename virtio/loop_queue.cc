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

LoopQueue::LoopQueue(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier,
                     const std::string& name, RateLimit& warnings, std::function<void()> on_kick)
    : queue_(std::move(queue)), notifier_(notifier), name_(name), warnings_(warnings) {
  // Edge-triggered: each kick is one event, and the eventfd need not be read.
  auto watch = loop.watch(queue_.kick->fd(), EPOLLIN | EPOLLET,
                          [on_kick = std::move(on_kick)](uint32_t) { on_kick(); });
  if (watch)
    kick_watch_ = *std::move(watch);
  else
    mark_broken(watch.error().message());
}

void LoopQueue::serve(size_t budget, const Step& step) {
  size_t chains = queue_.ring.size();
  do {
    queue_.ring.disable_notifications();
    while (chains > 0 && budget > 0) {
      Request* const request = current();
      if (request == nullptr || !step(*request, budget)) break;
      complete();
      --chains;
    }
  } while (chains > 0 && budget > 0 && !request_ && wait_for_kick());
  interrupt();
  // A kick and not EventLoop::post(): a loop that is stopping first runs all posted
  // functions, so it would never end.
  if (chains == 0 || budget == 0) queue_.kick->signal();
}

LoopQueue::Request* LoopQueue::current() {
  if (!request_ && !broken_) {
    auto chain = queue_.ring.pop();
    if (!chain)
      mark_broken(chain.error().message());
    else if (*chain)
      request_.emplace(**std::move(chain));
  }
  return request_ ? &*request_ : nullptr;
}

void LoopQueue::complete() {
  std::move(request_->chain).complete(request_->written_bytes);
  request_.reset();
}

void LoopQueue::interrupt() {
  if (queue_.ring.interrupt_needed()) notifier_.queue_interrupt(queue_.index);
}

void LoopQueue::mark_broken(const std::string& why) {
  warnings_.warn("{}: {}; the driver must reset the device", name_, why);
  broken_ = true;
  kick_watch_.reset();
  notifier_.needs_reset();
}

}  // namespace wick::virtio
