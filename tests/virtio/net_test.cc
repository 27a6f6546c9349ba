// Tests a virtio network card, except how it sends (net_transmit_test.cc), receives
// (net_receiver_test.cc) and is reset (net_reset_test.cc).
#include "virtio/net.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/virtio/net_fixture.h"

namespace wick::virtio {
namespace {

using fakes::MmioDriver;
using fakes::wait_for;

// --- configuration space ---

TEST_F(NetTest, HasAConfigurationSpaceThatCannotBeWritten) {
  make(4, {}, 1400);
  EXPECT_EQ(regs().device_id(), 1u);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(mac_in_config(), number(kMac));
    EXPECT_EQ(regs().config(kStatusAt, 2), kLinkUp);
    EXPECT_EQ(regs().config(kPairsAt, 2), 4u);
    EXPECT_EQ(regs().config(kMtuAt, 2), 1400u);
    EXPECT_EQ(regs().config(9, 4), 1400u << 8) << "over two fields, and the end";
    for (uint64_t at = 0; at < kConfigBytes; ++at) regs().set_config(at, 0xff, 1);
  }
  for (const uint64_t at : {kConfigBytes, uint64_t{60}, uint64_t{0xef8}})
    for (const size_t width : {1u, 2u, 4u, 8u}) EXPECT_EQ(regs().config(at, width), 0u);
}

TEST_F(NetTest, OffersWhatItsBackEndCanDo) {
  constexpr uint64_t kOfBackEnd =
      bit(VIRTIO_NET_F_GUEST_CSUM) | bit(VIRTIO_NET_F_GUEST_TSO4) | bit(VIRTIO_NET_F_GUEST_TSO6) |
      bit(VIRTIO_NET_F_GUEST_ECN) | bit(VIRTIO_NET_F_GUEST_USO4) | bit(VIRTIO_NET_F_GUEST_USO6) |
      bit(VIRTIO_NET_F_HOST_USO) | bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
  constexpr uint64_t kAlways =
      bit(VIRTIO_NET_F_CSUM) | bit(VIRTIO_NET_F_MAC) | bit(VIRTIO_NET_F_HOST_TSO4) |
      bit(VIRTIO_NET_F_HOST_TSO6) | bit(VIRTIO_NET_F_HOST_ECN) | bit(VIRTIO_NET_F_MRG_RXBUF) |
      bit(VIRTIO_NET_F_STATUS) | bit(VIRTIO_NET_F_CTRL_VQ) | bit(VIRTIO_NET_F_CTRL_RX) |
      bit(VIRTIO_NET_F_CTRL_VLAN) | bit(VIRTIO_NET_F_CTRL_RX_EXTRA) |
      bit(VIRTIO_NET_F_GUEST_ANNOUNCE) | bit(VIRTIO_NET_F_CTRL_MAC_ADDR) |
      feature_bit(VIRTIO_F_VERSION_1) | feature_bit(VIRTIO_RING_F_INDIRECT_DESC) |
      feature_bit(VIRTIO_RING_F_EVENT_IDX) | feature_bit(VIRTIO_F_RING_RESET);
  EXPECT_EQ(regs().device_features(), kAlways);
  make(1, kAllOffloads);
  EXPECT_EQ(regs().device_features(), kAlways | kOfBackEnd);
  make(1, {.checksum = true, .tcp4 = true});
  EXPECT_EQ(regs().device_features(), kAlways | bit(VIRTIO_NET_F_GUEST_CSUM) |
                                          bit(VIRTIO_NET_F_GUEST_TSO4) |
                                          bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
  make(2);
  EXPECT_EQ(regs().device_features(), kAlways | bit(VIRTIO_NET_F_MQ));
  make(1, {}, 9000);
  EXPECT_EQ(regs().device_features(), kAlways | bit(VIRTIO_NET_F_MTU));
}

TEST_F(NetTest, HasTwoQueuesForEachPairAndOneForCommands) {
  EXPECT_EQ(regs().queue_max_size(0), 256u);
  EXPECT_EQ(regs().queue_max_size(2), 64u);
  EXPECT_EQ(regs().queue_max_size(3), 0u);
  make(3);
  for (uint32_t i = 0; i < 6; ++i) EXPECT_EQ(regs().queue_max_size(i), 256u);
  EXPECT_EQ(regs().queue_max_size(6), 64u);
  EXPECT_EQ(regs().queue_max_size(7), 0u);
}

TEST_F(NetTest, AsksTheBackEndForWhatTheDriverAgreedTo) {
  make(1, kAllOffloads);
  const auto offloads = [&] { return on_loop([&] { return network_->offloads(); }); };
  EXPECT_EQ(offloads(), net::Offloads{});
  start();
  EXPECT_EQ(offloads(), kAllOffloads);
  start(bit(VIRTIO_NET_F_GUEST_TSO6) | bit(VIRTIO_NET_F_GUEST_USO6));
  EXPECT_EQ(offloads(), (net::Offloads{.checksum = true, .tcp4 = true, .ecn = true}));
  ASSERT_EQ(command(5, 0, bit(VIRTIO_NET_F_GUEST_CSUM)), VIRTIO_NET_OK);
  EXPECT_EQ(offloads(), net::Offloads{.checksum = true});
  regs().reset();
  EXPECT_EQ(offloads(), net::Offloads{});
}

// --- commands ---

TEST_F(NetTest, TakesCommandsOnTheQueueBehindThePairs) {
  make(3);
  start();
  EXPECT_EQ(control_, 6);
  EXPECT_EQ(command(0, 0, uint8_t{1}), VIRTIO_NET_OK);
  start(bit(VIRTIO_NET_F_MQ));
  EXPECT_EQ(control_, 2) << "without multiqueue there is one pair";
  EXPECT_EQ(command(0, 0, uint8_t{1}), VIRTIO_NET_OK);
  EXPECT_EQ(command(4, 0, uint16_t{2}), VIRTIO_NET_ERR);
}

TEST_F(NetTest, TakesCommandsInAnyShape) {
  start();
  const auto status = [&](fakes::FakeDriver::ChainBuilder& chain) {
    const auto request = chain.publish();
    kick(control_);
    const auto used = take_used(control_);
    EXPECT_EQ(used.head, request.head);
    for (const auto& buffer : request.writable)
      if (!buffer.empty()) return used.written_bytes == 1 ? std::to_integer<int>(buffer[0]) : -1;
    EXPECT_EQ(used.written_bytes, 0u);
    return -2;
  };
  const Bytes promiscuous(3);
  const std::span<const std::byte> bytes = promiscuous;
  auto cut = queue(control_).chain();
  cut.readable(bytes.first(1)).readable("").readable(bytes.first(1)).readable(bytes.first(1));
  EXPECT_EQ(status(cut.writable(0).writable(8)), VIRTIO_NET_OK);
  auto indirect = queue(control_).chain();
  EXPECT_EQ(status(indirect.readable(bytes).writable(1).indirect()), VIRTIO_NET_OK);
  auto silent = queue(control_).chain();
  EXPECT_EQ(status(silent.readable(bytes)), -2);
  auto empty = queue(control_).chain();
  EXPECT_EQ(status(empty.writable(1)), VIRTIO_NET_ERR);
  auto shorter = queue(control_).chain();
  EXPECT_EQ(status(shorter.readable(bytes.first(1)).writable(1)), VIRTIO_NET_ERR);
  // A command of zeroes would be valid, but this one is longer than the device accepts.
  auto huge = queue(control_).chain();
  EXPECT_EQ(status(huge.readable_at({0x2000000}, 16 << 20).writable(1)), VIRTIO_NET_ERR);
}

TEST_F(NetTest, TakesATableOfAThousandAddresses) {
  start();
  Bytes bytes = {std::byte{1}, std::byte{0}};
  constexpr uint32_t kAddresses = 1000;
  bytes.resize(2 + 4 + 6 * kAddresses + 4);
  store_le(std::span(bytes).subspan(2, 4), kAddresses);
  EXPECT_EQ(command(bytes), VIRTIO_NET_OK);
  bytes.resize(100'000);
  EXPECT_EQ(command(bytes), VIRTIO_NET_ERR);
}

TEST_F(NetTest, TheAddressThatTheDriverSetsCanBeRead) {
  start();
  constexpr net::MacAddress kNew = {2, 3, 4, 5, 6, 7};
  ASSERT_EQ(command(1, 1, kNew), VIRTIO_NET_OK);
  EXPECT_EQ(mac_in_config(), number(kNew));
  EXPECT_EQ(regs().config(kStatusAt, 2), kLinkUp);
  regs().reset();
  EXPECT_EQ(mac_in_config(), number(kMac));
}

TEST_F(NetTest, WithoutAControlQueueThereAreNoCommands) {
  start(bit(VIRTIO_NET_F_CTRL_VQ));
  (void)queue(control_).chain().readable(Bytes(3)).writable(1).publish();
  regs().kick(control_);
  settle();
  EXPECT_FALSE(take_used_now(control_));
  EXPECT_TRUE(sends(packet(60)));
}

TEST_F(NetTest, LeavesTheLoopToOthersWhenCommandsNeverEnd) {
  start();
  for (int i = 0; i < 32; ++i)
    (void)queue(control_).chain().readable(Bytes(3)).writable(1).publish();
  std::atomic<bool> stop = false;
  std::thread guest([&] {
    while (!stop)
      if (const auto used = queue(control_).take_used())
        queue(control_).make_available(static_cast<uint16_t>(used->head));
  });
  regs().kick(control_);
  settle();
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
  stop = true;
  guest.join();
}

// --- queues ---

TEST_F(NetTest, QueuePairsNeedNotAllBeSetUp) {
  make(4);
  start(0, {.missing = {2, 3, 5, 6}});
  ASSERT_EQ(command(4, 0, uint16_t{4}), VIRTIO_NET_OK);
  for (uint16_t pair = 0; pair < 4; ++pair) arrive(packet(60, pair), pair);
  for (uint32_t i = 0; i < 12; ++i) regs().kick(i);
  post_each(1, 128, 0);
  post_each(1, 128, 4);
  expect_packet(packet(60, 0), 1, 0);
  expect_packet(packet(60, 2), 1, 4);
  send(packet(60, 8), 100, 7);
  EXPECT_EQ(on_loop([&] { return network_->sent_on.back(); }), 3);
}

TEST_F(NetTest, NoQueueAtAllIsFineToo) {
  make(2);
  start(0, {.missing = {0, 1, 2, 3, 4}});
  arrive(packet(60));
  set_link(false);
  for (uint32_t i = 0; i < 5; ++i) regs().kick(i);
  settle();
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

TEST_F(NetTest, SendsOnEveryPair) {
  make(4);
  start();
  ASSERT_EQ(command(4, 0, uint16_t{4}), VIRTIO_NET_OK);
  EXPECT_EQ(on_loop([&] { return network_->active_pairs(); }), 4);
  for (uint16_t pair = 0; pair < 4; ++pair) {
    send(packet(60, pair), 100, static_cast<uint16_t>(2 * pair + 1));
    EXPECT_EQ(on_loop([&] { return network_->sent_on.back(); }), pair);
  }
  regs().reset();
  EXPECT_EQ(on_loop([&] { return network_->active_pairs(); }), 1);
}

TEST_F(NetTest, AsksForAResetWhenARingIsBroken) {
  make(2);
  for (uint16_t broken = 0; broken < 5; ++broken) {
    start();
    ASSERT_EQ(command(4, 0, uint16_t{2}), VIRTIO_NET_OK);
    queue(broken).set_available_index(1000);
    regs().kick(broken);
    EXPECT_TRUE(wait_for([&] { return (regs().status() & MmioDriver::kNeedsReset) != 0; }))
        << broken;
    arrive(packet(60), 0);
    arrive(packet(60), 1);
    settle();
    while (on_loop([&] { return network_->waiting(0) + network_->waiting(1); }) > 0) {
      start();
      if (command(4, 0, uint16_t{2}) != VIRTIO_NET_OK) break;
      post_each(4, 128, 0);
      post_each(4, 128, 2);
      settle();
    }
    start();
    EXPECT_TRUE(sends(packet(60)));
  }
}

// --- the link ---

TEST_F(NetTest, TellsOfALinkThatGoesDownAndComesUp) {
  start();
  EXPECT_EQ(regs().config(kStatusAt, 2), kLinkUp);
  set_link(false);
  EXPECT_EQ(regs().take_causes(), MmioDriver::kConfigCause);
  EXPECT_EQ(regs().config(kStatusAt, 2), 0u);
  set_link(true);
  EXPECT_EQ(regs().take_causes(), MmioDriver::kConfigCause);
  EXPECT_EQ(regs().config(kStatusAt, 2), kLinkUp | kAnnounce);
  ASSERT_EQ(command(3, 0), VIRTIO_NET_OK);
  EXPECT_EQ(regs().config(kStatusAt, 2), kLinkUp);
  set_link(true);
  EXPECT_EQ(regs().take_causes() & MmioDriver::kConfigCause, 0u) << "nothing has changed";
}

TEST_F(NetTest, AnAnnouncementThatNobodyMadeIsForgottenWithTheLinkOrTheDriver) {
  start();
  set_link(false), set_link(true);
  EXPECT_EQ(regs().config(kStatusAt, 2), kLinkUp | kAnnounce);
  set_link(false);
  EXPECT_EQ(regs().config(kStatusAt, 2), 0u);
  set_link(true);
  regs().reset();
  EXPECT_EQ(regs().config(kStatusAt, 2), kLinkUp);
}

TEST_F(NetTest, AsksNoAnnouncementOfADriverThatCannot) {
  start(bit(VIRTIO_NET_F_GUEST_ANNOUNCE));
  set_link(false), set_link(true);
  EXPECT_EQ(regs().config(kStatusAt, 2), kLinkUp);
}

TEST_F(NetTest, TellsOfALinkThatChangedBeforeTheDriverWasReady) {
  start();
  regs().reset();
  set_link(false);
  EXPECT_EQ(regs().config(kStatusAt, 2), 0u);
  regs().set_status(1);
  set_link(true);
  start();  // discards earlier interrupts first
  EXPECT_EQ(regs().take_causes(), MmioDriver::kConfigCause);
  start();
  EXPECT_EQ(regs().take_causes(), 0u) << "once";
}

TEST_F(NetTest, SaysThatTheLinkIsDownFromTheBeginning) {
  unmake();
  network_ = std::make_unique<fakes::FakeNetwork>();
  network_->set_link(false);
  card_ = Net::create(*network_, loop(), kMac, {}, "net0").value();
  transport_ = MmioTransport::create(*card_, *memory_, line_, "net0").value();
  registers_.emplace(*transport_);
  EXPECT_EQ(regs().config(kStatusAt, 2), 0u);
}

}  // namespace
}  // namespace wick::virtio
