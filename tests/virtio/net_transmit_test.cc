// Tests the packets that a driver of a network card sends.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/virtio/net_fixture.h"

namespace wick::virtio {
namespace {

using fakes::wait_for;

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

}  // namespace
}  // namespace wick::virtio
