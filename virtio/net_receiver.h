// One receive queue of a network card (virtio 1.2, 5.1.6.4): packets go from the
// back end straight into the driver's buffers.
//
// A packet's size is known only when it has been read. So it is read into the
// buffers there are, for as much as the last packets took, and what they have no
// room for goes to a buffer of our own; from there it is copied into more of the
// driver's buffers, if it merges them, when they come. Without a buffer nothing is
// read: packets wait on the host, which bounds their number.
//
// Thread rule: the loop's thread only.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
#include "net/backend.h"
#include "virtio/device.h"
#include "virtio/net_control.h"

namespace wick::virtio {

class NetReceiver {
 public:
  // All references must outlive it.
  NetReceiver(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier, net::Backend& backend,
              uint16_t pair, const NetSettings& settings, const std::string& name,
              RateLimit& complaints);
  NetReceiver(const NetReceiver&) = delete;
  NetReceiver& operator=(const NetReceiver&) = delete;

  // One turn: takes what the back end has, as far as there are buffers for it.
  void receive();

 private:
  // What is looked at before the driver gets it, a private copy.
  struct Head {
    net::PacketHeader header;
    std::array<std::byte, NetSettings::kStartBytes> start;
  };
  static_assert(sizeof(Head) == sizeof(net::PacketHeader) + NetSettings::kStartBytes);

  // A chain in hand, all of whose buffers are in room_.
  struct Held {
    Chain chain;
    size_t bytes;
  };

  bool gather(size_t wanted_bytes);
  bool read_packet();
  bool wanted() const;
  bool deliver();
  bool make_room();
  bool turn_is_over() const { return useless_chains_ >= queue_.ring.size(); }
  void copy_in(size_t offset, std::span<const std::byte> bytes);
  void give_up(const std::string& why);

  net::Backend& backend_;
  const uint16_t pair_;
  const NetSettings& settings_;
  const bool merges_;
  ActiveQueue queue_;
  DriverNotifier& notifier_;
  const std::string& name_;
  RateLimit& complaints_;
  EventLoop::Watch kick_;
  bool broken_ = false;

  // Taken from the ring and not filled yet, and all their buffers.
  std::deque<Held> chains_;
  std::vector<iovec> room_;
  size_t room_bytes_ = 0;
  size_t descriptors_ = 0;     // of the driver's, that chains_ take
  size_t expected_bytes_ = 0;  // of the next packet, by those before
  size_t useless_chains_ = 0;  // in this turn

  // A packet that was read and not delivered yet; 0: none.
  size_t packet_bytes_ = 0;
  size_t placed_bytes_ = 0;  // of it in head_ and behind that in room_; the rest: overflow_
  Head head_;
  const std::unique_ptr<std::byte[]> overflow_;
  std::vector<iovec> scattered_;  // where it is read to
};

}  // namespace wick::virtio
