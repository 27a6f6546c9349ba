#include "net/cable.h"

namespace wick::net {

Result<void> Cable::attach(EventLoop& loop, Events events) {
  events_ = std::move(events);
  Events forwarded;
  // An empty function means that vhost-net takes the packets.
  if (events_.readable)
    forwarded.readable = [this](uint16_t pair) {
      if (!held_) events_.readable(pair);
    };
  if (events_.link_changed)
    forwarded.link_changed = [this] {
      if (plugged_) events_.link_changed();
    };
  return host_->attach(loop, std::move(forwarded));
}

void Cable::detach() {
  host_->detach();
  events_ = {};
}

void Cable::hold(bool held) {
  if (std::exchange(held_, held) == held || held || !events_.readable) return;
  for (uint16_t pair = 0; pair < queue_pairs(); ++pair) events_.readable(pair);
}

void Cable::plug(bool plugged) {
  if (std::exchange(plugged_, plugged) == plugged) return;
  if (events_.link_changed) events_.link_changed();
}

size_t Cable::receive(uint16_t pair, std::span<const iovec> buffers) {
  if (held_) return 0;
  if (!plugged_) {
    lose_packets(pair);
    return 0;
  }
  return host_->receive(pair, buffers);
}

// Reads and drops packets until the back end has none; only then does the back end report the next
// packet. The number is bounded, because packets may arrive as fast as they are read; the remaining
// packets then wait on the host.
void Cable::lose_packets(uint16_t pair) {
  constexpr int kMaxPackets = 1024;
  if (lost_.empty()) lost_.resize(kMaxPacketBytes);
  const iovec buffer{lost_.data(), lost_.size()};
  for (int i = 0; i < kMaxPackets && host_->receive(pair, {&buffer, 1}) != 0; ++i) continue;
}

}  // namespace wick::net
