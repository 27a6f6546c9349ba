// Test fixture: a virtio network card, with a driver that sends.
#pragma once

#include <algorithm>

#include "tests/fakes/net_driver.h"

namespace wick::virtio {

using fakes::FakeDriver;
using fakes::Packet;
using net::PacketHeader;

constexpr uint64_t kMacAt = 0;
constexpr uint64_t kStatusAt = 6;
constexpr uint64_t kPairsAt = 8;
constexpr uint64_t kMtuAt = 10;
constexpr uint64_t kConfigBytes = 12;
constexpr uint64_t kLinkUp = 1;
constexpr uint64_t kAnnounce = 2;

class NetTest : public fakes::NetDriver {
 protected:
  void set_link(bool up) {
    loop().call([&] { network_->set_link(up); });
    loop().call([] {});
  }
  uint64_t mac_in_config() const { return regs().config(kMacAt, 4) | regs().config(4, 2) << 32; }
  static uint64_t number(const net::MacAddress& mac) {
    uint64_t value = 0;
    std::memcpy(&value, mac.data(), mac.size());
    return value;
  }

  // --- sending ---

  static Bytes bytes_of(const Packet& packet) {
    Bytes bytes(sizeof(packet.header) + packet.frame.size());
    std::memcpy(bytes.data(), &packet.header, sizeof(packet.header));
    std::ranges::copy(packet.frame, bytes.begin() + sizeof(packet.header));
    return bytes;
  }
  // Sends a packet in buffers of `buffer_bytes` each, and waits until the chain is used.
  void send(const Packet& packet, size_t buffer_bytes = ~size_t{0}, uint16_t index = kTransmit) {
    const Bytes bytes = bytes_of(packet);
    auto chain = queue(index).chain();
    for (std::span<const std::byte> left = bytes; !left.empty();) {
      const size_t part = std::min(left.size(), buffer_bytes);
      chain.readable(left.first(part));
      left = left.subspan(part);
    }
    finish(chain.publish(), index);
  }
  void finish(const FakeDriver::Request& request, uint16_t index = kTransmit) {
    kick(index);
    EXPECT_EQ(take_used(index), (FakeDriver::Used{request.head, 0}));
  }
  void expect_sent(const Packet& wanted) {
    const auto sent = take_sent();
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_TRUE(sent[0].frame == wanted.frame) << sent[0].frame.size();
    EXPECT_EQ(std::memcmp(&sent[0].header, &wanted.header, sizeof(PacketHeader)), 0);
  }
  bool sends(const Packet& packet) {
    send(packet);
    return take_sent().size() == 1;
  }
};

}  // namespace wick::virtio
