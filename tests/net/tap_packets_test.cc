// Tests what a TAP carries: packets, the state of the link, several queues.
#include <gtest/gtest.h>
#include <net/ethernet.h>

#include <array>

#include "tests/net/tap_fixture.h"

namespace wick::net {
namespace {

constexpr Offloads kTcpOffloads = {.checksum = true, .tcp4 = true, .tcp6 = true, .ecn = true};

// To be cut into segments of 1000 bytes.
constexpr PacketHeader kSegmented{.flags = PacketHeader::kNeedsChecksum,
                                  .segmentation = PacketHeader::kTcp4,
                                  .header_bytes = 54,
                                  .segment_bytes = 1000,
                                  .checksum_start = 34,
                                  .checksum_offset = 16,
                                  .buffers = 0};

// --- packets ---

TEST_F(TapTest, CarriesFramesBothWays) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  for (const size_t payload : {0ul, 6ul, 1000ul, 1446ul}) {
    const Bytes frame = tcp_frame(payload);
    send({}, frame);
    const auto up = host_receive();
    ASSERT_TRUE(up);
    EXPECT_EQ(up->frame, frame);
    EXPECT_EQ(up->header.segmentation, PacketHeader::kNone);
    const int before = readable_[0];
    while (receive_now()) {
    }
    host_send({}, frame);
    EXPECT_TRUE(wait_for([&] { return readable_[0] > before; })) << "says that it is there";
    const auto down = receive();
    ASSERT_TRUE(down);
    EXPECT_EQ(down->frame, frame);
    EXPECT_EQ(down->header.segmentation, PacketHeader::kNone);
    EXPECT_EQ(down->header.flags & PacketHeader::kNeedsChecksum, 0);
  }
}

TEST_F(TapTest, TakesOffloadsFromItsUser) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  const Bytes frame = tcp_frame(5000);
  send(kSegmented, frame);
  const auto got = host_receive();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->frame, frame) << "still one";
  EXPECT_EQ(got->header.segmentation, PacketHeader::kTcp4);
  EXPECT_EQ(got->header.segment_bytes, 1000);
  EXPECT_EQ(got->header.flags & PacketHeader::kNeedsChecksum, PacketHeader::kNeedsChecksum);
}

TEST_F(TapTest, GivesOnlyTheOffloadsThatWereAskedFor) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  const Offloads supported = tap_->supported_offloads();
  EXPECT_TRUE(supported.checksum && supported.tcp4 && supported.tcp6);
  const Bytes frame = tcp_frame(5000);
  for (int i = 0; i < 2; ++i) {
    set_offloads(kTcpOffloads);
    host_send(kSegmented, frame);
    const auto whole = receive();
    ASSERT_TRUE(whole);
    EXPECT_EQ(whole->frame.size(), frame.size());
    EXPECT_EQ(whole->header.segmentation, PacketHeader::kTcp4);
    EXPECT_EQ(whole->header.segment_bytes, 1000);
    EXPECT_NE(whole->header.flags & PacketHeader::kNeedsChecksum, 0);

    set_offloads({.checksum = true});
    host_send(kSegmented, frame);
    for (int segment = 0; segment < 5; ++segment) {
      const auto part = receive();
      ASSERT_TRUE(part);
      EXPECT_EQ(part->frame.size(), 1054u);
      EXPECT_EQ(part->header.segmentation, PacketHeader::kNone);
    }

    set_offloads({.tcp4 = true});  // not valid without `checksum`
    host_send(kSegmented, frame);
    for (int segment = 0; segment < 5; ++segment) {
      const auto part = receive();
      ASSERT_TRUE(part);
      EXPECT_EQ(part->frame.size(), 1054u);
      EXPECT_EQ(part->header.flags & PacketHeader::kNeedsChecksum, 0);
    }
    EXPECT_TRUE(receives_nothing());
  }
}

TEST_F(TapTest, ShrugsAtPacketsThatAreNone) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  PacketHeader header;
  const iovec lone{&header, 3};
  loop().call([&] {
    tap_->send(0, {});
    tap_->send(0, {&lone, 1});
  });
  send({}, {});
  send({}, Bytes(13));
  send({.segmentation = 0x7f}, tcp_frame(100));
  send({.flags = 1, .checksum_start = 0xffff, .checksum_offset = 0xffff}, tcp_frame(100));
  send({.flags = 1, .segmentation = PacketHeader::kTcp4, .segment_bytes = 0}, tcp_frame(100));
  send({}, tcp_frame(200));
  EXPECT_EQ(host_receive()->frame, tcp_frame(200));
}

TEST_F(TapTest, PacketsThatNobodyTakesCauseNoEvents) {
  open({.interface = "wick0"});
  attach();
  open_host("wick0");
  for (int i = 0; i < 10; ++i) host_send({}, tcp_frame(100));
  EXPECT_TRUE(wait_for([&] { return readable_[0] > 0; }));
  for (int i = 0; i < 10; ++i) loop().call([] {});
  const int events = readable_[0];
  const int rounds = rounds_;
  for (int i = 0; i < 100; ++i) loop().call([] {});
  EXPECT_LE(readable_[0], events + 10) << "at most the host's own packets";
  EXPECT_LE(rounds_, rounds + 150);
  EXPECT_TRUE(receive());
}

// --- the link ---

TEST_F(TapTest, TellsWhenTheInterfaceGoesDownAndComesUp) {
  open({.interface = "wick0"});
  attach();
  EXPECT_TRUE(link_up());
  ASSERT_TRUE(run("ip link set wick0 down"));
  EXPECT_TRUE(wait_for([&] { return link_changes_ == 1; }));
  EXPECT_FALSE(link_up());
  send({}, tcp_frame(100));
  EXPECT_TRUE(receives_nothing());
  ASSERT_TRUE(run("ip link set wick0 up"));
  EXPECT_TRUE(wait_for([&] { return link_changes_ == 2; }));
  EXPECT_TRUE(link_up());
  ASSERT_TRUE(run("ip link add br7 type bridge && ip link set br7 up && ip link del br7"));
  for (int i = 0; i < 10; ++i) loop().call([] {});
  EXPECT_EQ(link_changes_, 2) << "others do not matter";
}

TEST_F(TapTest, KnowsItsInterfaceByAnyName) {
  open({.interface = "wick0"});
  attach();
  ASSERT_TRUE(run("ip link set wick0 down && ip link set wick0 name other"));
  EXPECT_TRUE(wait_for([&] { return !link_up(); }));
  ASSERT_TRUE(run("ip link set other up"));
  EXPECT_TRUE(wait_for([&] { return link_up(); }));
  ASSERT_TRUE(run("ip link set other down"));
  EXPECT_TRUE(wait_for([&] { return !link_up(); }));
}

TEST_F(TapTest, AnInterfaceThatIsDeletedIsALinkThatIsDown) {
  open({.interface = "wick0", .queues = 2});
  attach();
  set_active_pairs(2);
  open_host("wick0");
  for (int i = 0; i < 10; ++i) host_send({}, tcp_frame(100));
  ASSERT_TRUE(run("ip link del wick0"));
  EXPECT_TRUE(wait_for([&] { return !link_up(); }));
  EXPECT_EQ(link_changes_, 1);
  for (int i = 0; i < 10; ++i) loop().call([] {});
  const int rounds = rounds_;
  const int events = readable_[0] + readable_[1];
  for (int i = 0; i < 100; ++i) loop().call([] {});
  EXPECT_LE(rounds_, rounds + 110) << "it spins";
  EXPECT_LE(readable_[0] + readable_[1], events + 2);
  send({}, tcp_frame(100));
  send({}, tcp_frame(100), 1);
  while (receive_now() || receive_now(1)) {
  }
  set_offloads(kTcpOffloads);
  set_active_pairs(1);
  set_active_pairs(2);
  EXPECT_FALSE(link_up());
  close();
  EXPECT_EQ(error_of({.interface = "wick0"}), "no error");
}

// --- several queues, and several users one after the other ---

TEST_F(TapTest, GivesPacketsToTheActiveQueuesOnly) {
  open({.interface = "wick0", .queues = 4});
  EXPECT_EQ(tap_->queue_pairs(), 4);
  attach();
  open_host("wick0");
  const auto count = [&](uint16_t pair) {
    int packets = 0;
    while (const auto packet = receive_now(pair))
      if (load_be<uint16_t>(std::span(packet->frame).subspan(12)) == ETH_P_IP) ++packets;
    return packets;
  };
  for (const uint16_t active : std::to_array<uint16_t>({1, 4, 2, 1, 3, 4})) {
    SCOPED_TRACE(active);
    set_active_pairs(active);
    host_send_flows(200);
    int all = 0;
    for (uint16_t pair = 0; pair < 4; ++pair) {
      const int packets = count(pair);
      EXPECT_EQ(packets > 0, pair < active) << pair;
      all += packets;
    }
    EXPECT_EQ(all, 200);
  }
  for (uint16_t pair = 0; pair < 4; ++pair) {
    EXPECT_GT(readable_[pair], 0) << pair;
    send({}, tcp_frame(100, static_cast<uint8_t>(pair)), pair);
    EXPECT_EQ(host_receive()->frame, tcp_frame(100, static_cast<uint8_t>(pair)));
  }
}

TEST_F(TapTest, CanBeAttachedAgain) {
  open({.interface = "wick0", .queues = 2});
  attach();
  open_host("wick0");
  set_active_pairs(2);
  detach();
  const int before = readable_[0] + readable_[1];
  host_send({}, tcp_frame(100));
  ASSERT_TRUE(run("ip link set wick0 down"));
  for (int i = 0; i < 10; ++i) loop().call([] {});
  EXPECT_EQ(readable_[0] + readable_[1], before);
  EXPECT_EQ(link_changes_, 0);

  attach();
  EXPECT_FALSE(link_up());
  ASSERT_TRUE(run("ip link set wick0 up"));
  EXPECT_TRUE(wait_for([&] { return link_changes_ == 1; }));
  while (receive_now()) {
  }
  open_host("wick0");
  host_send_flows(50);
  int packets = 0;
  while (const auto packet = receive_now())
    if (load_be<uint16_t>(std::span(packet->frame).subspan(12)) == ETH_P_IP) ++packets;
  EXPECT_EQ(packets, 50) << "one queue, as in the beginning";
}

}  // namespace
}  // namespace wick::net
