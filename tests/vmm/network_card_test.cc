#include "vmm/network_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/virtio_ids.h>

namespace wick::vmm {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::StartsWith;

constexpr net::MacAddress kMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

NetConfig user_network() {
  NetConfig config;
  config.kind = NetConfig::Kind::kUser;
  config.mac = kMac;
  return config;
}

TEST(NetworkCardOfAMachine, IsAVirtioDeviceWithItsAddress) {
  const auto card = NetworkCard::create(user_network(), "net0", "machine").value();
  ASSERT_NE(card->virtio(), nullptr);
  EXPECT_EQ(card->virtio()->id(), uint32_t{VIRTIO_ID_NET});
  EXPECT_EQ(card->mac(), kMac);
  std::array<std::byte, 6> address{};
  card->virtio()->read_config(0, address);  // virtio 1.2, 5.1.4
  EXPECT_THAT(address, ElementsAreArray(std::as_bytes(std::span(kMac))));
}

TEST(NetworkCardOfAMachine, LeavesTheChipOfAnE1000ToTheBoard) {
  NetConfig config = user_network();
  config.device = NetConfig::Device::kE1000;
  const auto card = NetworkCard::create(config, "net0", "machine").value();
  EXPECT_EQ(card->virtio(), nullptr);
  EXPECT_EQ(card->backend().queue_pairs(), 1);
}

TEST(NetworkCardOfAMachine, ThatCannotBeOpenedIsAnErrorWithItsName) {
  NetConfig config = user_network();
  config.forwards.push_back({.host_address = "203.0.113.1", .host_port = 8080, .guest_port = 80});
  const auto forward = NetworkCard::create(config, "net1", "machine");
  ASSERT_FALSE(forward);  // no interface of this host has this address (RFC 5737)
  EXPECT_THAT(forward.error().message(), AllOf(StartsWith("net1: "), HasSubstr("203.0.113.1")));

  config = user_network();
  config.kind = NetConfig::Kind::kTap;
  config.interface = "wick-none";
  config.bridge = "wick-no-bridge";
  const auto tap = NetworkCard::create(config, "net2", "machine");
  ASSERT_FALSE(tap);
  EXPECT_THAT(tap.error().message(), StartsWith("net2: "));
}

}  // namespace
}  // namespace wick::vmm
