#include "virtio/kicked_ring.h"

namespace wick::virtio {

KickedRing::KickedRing(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier,
                       const std::string& name, RateLimit& warnings, std::function<void()> on_kick)
    : active_(std::move(queue)), notifier_(notifier), name_(name), warnings_(warnings) {
  // The watch is edge-triggered: each kick is one event, and the eventfd need not be read.
  auto watch = loop.watch(active_.kick->fd(), EPOLLIN | EPOLLET,
                          [on_kick = std::move(on_kick)](uint32_t) { on_kick(); });
  if (watch)
    kick_watch_ = *std::move(watch);
  else
    mark_broken(watch.error().message());
}

std::optional<Chain> KickedRing::pop() {
  if (!active()) return std::nullopt;
  auto chain = active_.ring.pop();
  if (chain) return *std::move(chain);
  mark_broken(chain.error().message());
  return std::nullopt;
}

void KickedRing::mark_broken(const std::string& why) {
  warnings_.warn("{}: {}; the driver must reset the device", name_, why);
  stop();
  notifier_.needs_reset();
}

}  // namespace wick::virtio
