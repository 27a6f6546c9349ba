// A receive queue of a network card (virtio 1.2, 5.1.6.4): packets go from the back end
// directly into the driver's buffers.
//
// A packet's size is known only after the packet has been read. So the receiver pops chains for
// as many bytes as the last packets had, and reads the packet into their buffers. What does not
// fit goes into a private overflow buffer; with mergeable buffers it is copied to further chains
// when the driver adds them. While there is no chain, nothing is read, and packets wait on the
// host, which limits their number.
//
// Thread rule: the loop's thread only.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "net/backend.h"
#include "virtio/kicked_ring.h"
#include "virtio/net_control.h"

namespace wick::virtio {

class NetReceiver {
 public:
  // All references must outlive the receiver.
  NetReceiver(EventLoop& loop, ActiveQueue queue, DriverNotifier& notifier, net::Backend& backend,
              uint16_t pair, const NetSettings& settings, const std::string& name,
              RateLimit& warnings);
  NetReceiver(const NetReceiver&) = delete;
  NetReceiver& operator=(const NetReceiver&) = delete;

  // Makes one bounded turn: receives while the back end has packets and the driver has buffers.
  void receive();

 private:
  // The start of a packet, in private memory, because it must be checked before the driver gets the
  // packet.
  struct Head {
    net::PacketHeader header;
    std::array<std::byte, NetSettings::kStartBytes> start;
  };
  static_assert(sizeof(Head) == sizeof(net::PacketHeader) + NetSettings::kStartBytes);

  // A popped chain. Its buffers are in room_.
  struct Held {
    Chain chain;
    size_t bytes;
  };

  bool gather(size_t wanted_bytes);
  bool read_packet();
  bool accepts_packet() const;
  bool deliver();
  bool make_room();
  bool turn_is_over() { return empty_chains_ >= ring_.queue().size(); }
  void copy_in(size_t offset, std::span<const std::byte> bytes);

  net::Backend& backend_;
  const uint16_t pair_;
  const NetSettings& settings_;
  const bool merges_;
  const std::string& name_;
  RateLimit& warnings_;
  KickedRing ring_;

  // The chains that are popped and not filled yet, and all their buffers.
  std::deque<Held> chains_;
  std::vector<iovec> room_;
  size_t room_bytes_ = 0;
  size_t descriptors_ = 0;     // the number of descriptors that chains_ use
  size_t expected_bytes_ = 0;  // the expected size of the next packet
  size_t empty_chains_ = 0;    // number of chains without writable bytes in this turn

  // The packet that was read and not delivered yet; size 0: there is no such packet.
  size_t packet_bytes_ = 0;
  size_t placed_bytes_ = 0;  // the part in head_ and room_; the rest is in overflow_
  Head head_;
  const std::unique_ptr<std::byte[]> overflow_;
  std::vector<iovec> scattered_;  // the buffers for readv(2) in read_packet()
};

}  // namespace wick::virtio
