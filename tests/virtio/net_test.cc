// Tests a virtio network card, except its receive queues (net_receiver_test.cc).
#include "virtio/net.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/fakes/net_driver.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::MmioDriver;
using fakes::Packet;
using fakes::wait_for;
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

// --- sending ---

TEST_F(NetTest, SendsAPacket) {
  start();
  for (const size_t size : {14ul, 60ul, 1514ul, 9014ul, net::kMaxFrameBytes}) {
    send(packet(size));
    expect_sent(packet(size));
  }
}

TEST_F(NetTest, SendsAPacketOfManyBuffers) {
  start();
  for (const size_t buffer_bytes : {1ul, 5ul, 11ul, 12ul, 13ul}) {
    send(packet(100), buffer_bytes);
    expect_sent(packet(100));
  }
  send(packet(255 * 40 - sizeof(PacketHeader)), 40);
  expect_sent(packet(255 * 40 - sizeof(PacketHeader)));
  const Bytes bytes = bytes_of(packet(256 - sizeof(PacketHeader)));
  auto chain = queue(kTransmit).chain();
  for (const std::byte& byte : bytes) chain.readable({&byte, 1});
  finish(chain.publish());  // uses all descriptors of the ring
  expect_sent(packet(256 - sizeof(PacketHeader)));
}

TEST_F(NetTest, IgnoresEmptyBuffersAndThoseToWriteTo) {
  start();
  const Bytes bytes = bytes_of(packet(60));
  const std::span<const std::byte> all = bytes;
  auto chain = queue(kTransmit).chain();
  chain.readable("").readable(all.first(4)).readable("").readable(all.subspan(4)).readable("");
  const auto request = chain.writable(10).publish();
  finish(request);
  expect_sent(packet(60));
  EXPECT_EQ(request.writable[0][0], std::byte{0xee});
}

TEST_F(NetTest, GivesBackWhatIsNoPacketAndGoesOn) {
  start();
  finish(queue(kTransmit).chain().readable("").publish());
  finish(queue(kTransmit).chain().writable(100).publish());
  for (const size_t size : {1ul, 11ul, 12ul, 25ul})
    finish(queue(kTransmit).chain().readable(Bytes(size)).publish());
  send(packet(net::kMaxFrameBytes + 1));
  send(packet(300'000));
  EXPECT_TRUE(take_sent().empty());
  EXPECT_TRUE(sends(packet(60)));
}

TEST_F(NetTest, GivesBackChainsOfGigabytes) {
  start();
  auto chain = queue(kTransmit).chain();
  for (int i = 0; i < 255; ++i) chain.readable_at({0x2000000}, 16 << 20);
  finish(chain.publish());
  EXPECT_TRUE(take_sent().empty());
  EXPECT_TRUE(sends(packet(60)));
}

TEST_F(NetTest, DoesNotSendOffloadsThatTheDriverDidNotAgreeTo) {
  make(1, kAllOffloads);
  const struct {
    uint64_t without;
    PacketHeader header;
  } packets[] = {
      {bit(VIRTIO_NET_F_CSUM), {.flags = 1}},
      {bit(VIRTIO_NET_F_HOST_TSO4), {.flags = 1, .segmentation = PacketHeader::kTcp4}},
      {bit(VIRTIO_NET_F_HOST_TSO6), {.flags = 1, .segmentation = PacketHeader::kTcp6}},
      {bit(VIRTIO_NET_F_HOST_USO), {.flags = 1, .segmentation = PacketHeader::kUdp}},
      {bit(VIRTIO_NET_F_HOST_ECN),
       {.flags = 1, .segmentation = PacketHeader::kTcp6 | PacketHeader::kEcn}},
      {0, {.flags = 1, .segmentation = PacketHeader::kEcn}},
      {0, {.flags = 1, .segmentation = PacketHeader::kFragments}},
      {0, {.flags = 1, .segmentation = 2}},
      {0, {.flags = 1, .segmentation = 0x7f}},
  };
  for (const auto& [without, header] : packets) {
    start(without);
    EXPECT_FALSE(sends(packet(1000, 1, header))) << int{header.segmentation};
    EXPECT_TRUE(sends(packet(1000)));
    if (without == 0) continue;
    start();
    EXPECT_TRUE(sends(packet(1000, 1, header))) << int{header.segmentation};
  }
}

TEST_F(NetTest, PassesOnAHeaderOfKnownBitsOnly) {
  start();
  const PacketHeader asked{.flags = 1,
                           .segmentation = PacketHeader::kTcp4 | PacketHeader::kEcn,
                           .header_bytes = 54,
                           .segment_bytes = 1448,
                           .checksum_start = 34,
                           .checksum_offset = 16,
                           .buffers = 0};
  PacketHeader noisy = asked;
  noisy.flags = 0xff;
  noisy.buffers = 0xffff;
  send(packet(1000, 1, noisy));
  expect_sent(packet(1000, 1, asked));
}

TEST_F(NetTest, InterruptsOnceForABatchThatWasSent) {
  start();
  const int before = line_.pulses();
  for (uint32_t i = 0; i < 50; ++i)
    (void)queue(kTransmit).chain().readable(bytes_of(packet(60, i))).publish();
  regs().kick(kTransmit);
  EXPECT_TRUE(wait_for([&] { return queue(kTransmit).used_index() == 50; }));
  settle();
  EXPECT_EQ(line_.pulses(), before + 1);
  EXPECT_EQ(take_sent().size(), 50u);
}

TEST_F(NetTest, DoesNotInterruptADriverThatRefuses) {
  start();
  queue(kTransmit).refuse_interrupts();
  send(packet(60));
  settle();
  EXPECT_EQ(regs().take_causes(), 0u);
}

// Compares the largest number of packets that one turn sends, for packets of several kinds.
TEST_F(NetTest, ATurnIsAsLongAsTheFramesThatPacketsBecome) {
  start();
  uint16_t used = 0;
  const auto most_in_a_turn = [&](size_t frame_bytes, uint16_t segment_bytes) {
    constexpr uint16_t kPackets = 30;
    const Bytes bytes = bytes_of(packet(
        frame_bytes, 1, {.segmentation = PacketHeader::kTcp4, .segment_bytes = segment_bytes}));
    for (size_t i = 0; i < kPackets; ++i) (void)queue(kTransmit).chain().readable(bytes).publish();
    // This task runs once between two turns.
    size_t sent = 0;
    size_t most = 0;
    std::function<void()> look = [&] {
      most = std::max(most, network_->sent.size() - sent);
      sent = network_->sent.size();
      if (sent < kPackets) loop().post(look);
    };
    loop().call([&] {
      regs().kick(kTransmit);
      look();
    });
    used += kPackets;
    EXPECT_TRUE(wait_for([&] { return queue(kTransmit).used_index() == used; }));
    settle();
    while (queue(kTransmit).take_used()) {
    }
    EXPECT_EQ(take_sent().size(), kPackets);
    return most;
  };
  EXPECT_EQ(most_in_a_turn(2000, 1), 1u);
  EXPECT_EQ(most_in_a_turn(2000, 0), 1u) << "which is none";
  EXPECT_EQ(most_in_a_turn(60'000, 1448), 9u);
  EXPECT_EQ(most_in_a_turn(2000, 1448), 30u);
}

TEST_F(NetTest, LeavesTheLoopToOthersWhenTheDriverNeverStopsSending) {
  start();
  for (uint32_t i = 0; i < 256; ++i)
    (void)queue(kTransmit).chain().readable(bytes_of(packet(60, i))).publish();
  std::atomic<bool> stop = false;
  std::thread guest([&] {
    while (!stop)
      if (const auto used = queue(kTransmit).take_used())
        queue(kTransmit).make_available(static_cast<uint16_t>(used->head));
  });
  regs().kick(kTransmit);
  settle();
  (void)take_sent();
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
  stop = true;
  guest.join();
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

// --- reset and destruction ---

TEST_F(NetTest, StartsAgainWithOtherFeatures) {
  make(2, kAllOffloads, 1500);
  start();
  ASSERT_EQ(command(4, 0, uint16_t{2}), VIRTIO_NET_OK);
  ASSERT_EQ(command(0, 0, uint8_t{0}), VIRTIO_NET_OK);
  ASSERT_EQ(command(2, 0, uint16_t{5}), VIRTIO_NET_OK);
  start(bit(VIRTIO_NET_F_MRG_RXBUF) | bit(VIRTIO_NET_F_MQ) | bit(VIRTIO_NET_F_GUEST_CSUM) |
        bit(VIRTIO_NET_F_CTRL_VLAN));
  EXPECT_EQ(on_loop([&] { return network_->active_pairs(); }), 1);
  EXPECT_EQ(on_loop([&] { return network_->offloads().checksum; }), false);
  post_each(2, 2048);
  Packet other = packet(60);
  other.frame[5] ^= std::byte{1};
  arrive(other);
  expect_packet(other);
  EXPECT_EQ(command(2, 0, uint16_t{5}), VIRTIO_NET_ERR);
  EXPECT_TRUE(sends(packet(60)));
}

TEST_F(NetTest, ResetsInTheMiddleOfTraffic) {
  make(2);
  std::atomic<bool> stop = false;
  std::jthread network([&] {
    for (uint32_t i = 0; !stop; ++i) {
      loop().call([&] {
        for (uint16_t pair = 0; pair < 2; ++pair)
          if (network_->waiting(pair) < 100)
            network_->arrive(packet(i % 3 == 0 ? 1500 : 60, i), pair);
        if (i % 16 == 0) network_->set_link(i % 32 == 0);
        network_->sent.clear();
        network_->sent_on.clear();
      });
    }
  });
  for (int round = 0; round < 200; ++round) {
    start(round % 2 == 0 ? bit(VIRTIO_NET_F_MRG_RXBUF) : 0, {.event_index = round % 4 < 2});
    (void)command(4, 0, uint16_t{2});
    for (uint16_t pair = 0; pair < 2; ++pair) {
      for (int i = 0; i < 20; ++i) post({300}, static_cast<uint16_t>(2 * pair));
      for (uint32_t i = 0; i < 20; ++i)
        (void)queue(static_cast<uint16_t>(2 * pair + 1))
            .chain()
            .readable(bytes_of(packet(60, i)))
            .publish();
      regs().kick(2u * pair + 1);
    }
    if (round % 3 == 0) (void)take_used(kReceive);
    regs().reset();
    const auto index = queue(kReceive).used_index();
    loop().call([] {});
    EXPECT_EQ(queue(kReceive).used_index(), index) << "touched after the reset";
  }
  stop = true;
}

size_t open_descriptors() {
  return static_cast<size_t>(
      std::ranges::distance(std::filesystem::directory_iterator("/proc/self/fd")));
}

size_t resident_bytes() {
  size_t all = 0;
  size_t resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

// With this many repetitions a leak of 400 bytes each would be detected.
constexpr int kManyTimes = 10'000;
constexpr size_t kLeakBytes = 4 << 20;

void expect_resident(size_t bytes) {
#ifndef __SANITIZE_ADDRESS__  // ASan keeps freed memory, and detects leaks itself
  EXPECT_LT(resident_bytes(), bytes + kLeakBytes);
#else
  static_cast<void>(bytes);
#endif
}

TEST_F(NetTest, LeaksNothingInTenThousandResets) {
  make(2, kAllOffloads);
  size_t descriptors = 0;
  size_t bytes = 0;
  for (int i = 0; i < kManyTimes + 200; ++i) {
    if (i == 200) descriptors = open_descriptors(), bytes = resident_bytes();
    start(0, {.size = 16});
    post_each(2, 100);
    arrive(packet(60));
    expect_packet(packet(60));
    ASSERT_FALSE(HasFailure());
    arrive(packet(1000));  // waits for buffers, and is dropped
    send(packet(60));
    regs().reset();
    loop().call([&] { network_->sent.clear(), network_->sent_on.clear(); });
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  expect_resident(bytes);
}

TEST_F(NetTest, LeaksNothingInTenThousandMachines) {
  unmake();
  size_t descriptors = 0;
  size_t bytes = 0;
  for (int i = 0; i < kManyTimes + 200; ++i) {
    if (i == 200) descriptors = open_descriptors(), bytes = resident_bytes();
    thread_->stop();
    thread_ = LoopThread::start("net-test").value();
    make();
    start(0, {.size = 16});
    post({100});
    arrive(packet(60));
    expect_packet(packet(60));
    send(packet(60));
    arrive(packet(1000));
    ASSERT_FALSE(HasFailure());
    if (i % 2 == 0)
      unmake();
    else  // the machine ends without a reset by the driver
      transport_->power_off(), registers_.reset(), unmake();
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  expect_resident(bytes);
}

TEST_F(NetTest, ItsBackEndHearsNoMoreOfItWhenItIsGone) {
  start();
  registers_->reset(), registers_.reset(), transport_.reset(), card_.reset();
  arrive(packet(60));
  set_link(false);
  card_ = Net::create(*network_, loop(), kMac, {}, "net0").value();
  transport_ = MmioTransport::create(*card_, *memory_, line_, "net0").value();
  registers_.emplace(*transport_);
  EXPECT_EQ(regs().config(kStatusAt, 2), 0u);
  start();
  post({128});
  expect_packet(packet(60));
}

}  // namespace
}  // namespace wick::virtio
