// Tests the packets that a driver of a network card receives, and their buffers.
#include "virtio/net_receiver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/fakes/net_driver.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::MmioDriver;
using fakes::Packet;
using fakes::wait_for;
using net::PacketHeader;

constexpr size_t kHeaderBytes = sizeof(PacketHeader);

class NetReceive : public fakes::NetDriver {};

TEST_F(NetReceive, PutsAPacketIntoABuffer) {
  for (const uint64_t without : {uint64_t{0}, bit(VIRTIO_NET_F_MRG_RXBUF)}) {
    start(without);
    const auto request = post({2048});
    const Packet sent = packet(60);
    arrive(sent);
    expect_packet(sent);
    const auto rest = request.writable[0].subspan(kHeaderBytes + 60);
    EXPECT_TRUE(std::ranges::all_of(rest, [](std::byte b) { return b == std::byte{0xee}; }));
    EXPECT_FALSE(take_used_now(kReceive));
  }
}

TEST_F(NetReceive, TakesWhatCameBeforeTheDriver) {
  arrive(packet(60, 1));
  start();
  post_each(2, 2048);
  expect_packet(packet(60, 1));
  arrive(packet(70, 2));
  expect_packet(packet(70, 2));
}

TEST_F(NetReceive, TakesPacketsOfAllSizes) {
  for (const uint64_t without : {uint64_t{0}, bit(VIRTIO_NET_F_MRG_RXBUF)}) {
    start(without);
    for (const size_t size : {14ul, 15ul, 18ul, 19ul, 60ul, 1514ul, 9014ul, net::kMaxFrameBytes}) {
      SCOPED_TRACE(size);
      post({70000});
      arrive(packet(size));
      expect_packet(packet(size));
    }
  }
}

TEST_F(NetReceive, CutsAPacketOverTheBuffersOfAChain) {
  for (const uint64_t without : {uint64_t{0}, bit(VIRTIO_NET_F_MRG_RXBUF)}) {
    start(without);
    for (const size_t size : {14ul, 20ul, 60ul, 500ul}) {
      post({0, 1, 5, 0, 6, 1, 1, 16, 3, 300, 1, 1000});
      arrive(packet(size));
      expect_packet(packet(size));
    }
  }
}

TEST_F(NetReceive, TakesChainsOf256Buffers) {
  for (const uint64_t without : {uint64_t{0}, bit(VIRTIO_NET_F_MRG_RXBUF)}) {
    start(without);
    for (int i = 0; i < 20; ++i) {
      auto chain = queue(kReceive).chain();
      for (int k = 0; k < 256; ++k) chain.writable(20);
      post(chain.indirect().publish(), kReceive);
    }
    arrive(packet(5000, 1));
    expect_packet(packet(5000, 1));
    arrive(packet(5200, 2));
    if (without == 0) expect_packet(packet(5200, 2), 2);
    arrive(packet(60, 3));
    expect_packet(packet(60, 3));
    // More buffers than one call of readv(2) takes.
    arrive(packet(60'000, 4));
    arrive(packet(61, 5));
    expect_packet(packet(61, 5));
  }
}

TEST_F(NetReceive, MergesAsManyBuffersAsAPacketNeeds) {
  start();
  for (size_t count = 1; count <= 17; ++count) {
    for (const size_t less : {0, 1, 50, 99}) {
      SCOPED_TRACE(testing::Message() << count << " buffers but " << less << " bytes");
      post_each(count, 100);
      const size_t frame_bytes = count * 100 - less - kHeaderBytes;
      if (count == 1 && less > 70) {
        post_each(1, 100);
        arrive(packet(14));
        expect_packet(packet(14));
        arrive(packet(15));
        expect_packet(packet(15));
        continue;
      }
      arrive(packet(frame_bytes));
      expect_packet(packet(frame_bytes), count);
    }
  }
}

TEST_F(NetReceive, MergesBuffersOfOneByte) {
  start();
  post_each(256, 1);
  for (const size_t size : {14ul, 60ul}) {
    arrive(packet(size));
    expect_packet(packet(size), size + kHeaderBytes);
  }
  arrive(packet(97));
  arrive(packet(1000));
  expect_packet(packet(97), 97 + kHeaderBytes);
}

// Otherwise a driver could find the first buffers only, and take the rest for another
// packet.
TEST_F(NetReceive, ShowsAllBuffersOfAPacketAtOnce) {
  start();
  constexpr int kPackets = 300;
  constexpr size_t kBuffers = 15;
  std::atomic<bool> done = false;
  std::jthread network([&] {
    for (uint32_t i = 0; i < kPackets; ++i) {
      arrive(packet(kBuffers * 100 - kHeaderBytes, i));
      while (!done && waiting() > 0) std::this_thread::yield();
    }
  });
  for (int i = 0; i < 60; ++i) post_each(1, 100);
  int torn = 0;
  for (int taken = 0; taken < kPackets; ++taken) {
    const uint16_t seen = queue(kReceive).used_seen();
    // Polls without a pause, to detect buffers that are published one by one.
    ASSERT_TRUE(wait_for([&] {
      for (int looks = 0; looks < 10'000; ++looks)
        if (queue(kReceive).used_index() != seen) return true;
      return false;
    }));
    if (static_cast<uint16_t>(queue(kReceive).used_index() - seen) < kBuffers) ++torn;
    expect_packet(packet(kBuffers * 100 - kHeaderBytes, static_cast<uint32_t>(taken)), kBuffers);
    post_each(kBuffers, 100);
  }
  done = true;
  EXPECT_EQ(torn, 0);
}

TEST_F(NetReceive, WithoutMergingAPacketThatIsTooLargeIsLostAndItsBufferIsNot) {
  start(bit(VIRTIO_NET_F_MRG_RXBUF));
  const auto first = post({100});
  post({1000});
  arrive(packet(89, 1));
  arrive(packet(88, 2));
  expect_packet(packet(88, 2));
  EXPECT_FALSE(posted_[kReceive].contains(first.head));
  arrive(packet(988, 3));
  expect_packet(packet(988, 3));
}

TEST_F(NetReceive, APacketWaitsForBuffersToMerge) {
  start();
  post_each(3, 100);
  arrive(packet(1000, 1));
  arrive(packet(60, 2));
  settle();
  EXPECT_FALSE(take_used_now(kReceive));
  post_each(3, 100);
  settle();
  EXPECT_FALSE(take_used_now(kReceive));
  const int calls = receive_calls();
  settle();
  EXPECT_EQ(receive_calls(), calls) << "it waits, and does not ask";
  post({1000});
  expect_packet(packet(1000, 1), 7);
  post({100});
  expect_packet(packet(60, 2));
}

TEST_F(NetReceive, APacketThatIsLargerThanTheRingIsLost) {
  start(0, {.size = 16});
  post_each(16, 100);
  arrive(packet(1601 - kHeaderBytes, 1));
  arrive(packet(1600 - kHeaderBytes, 2));
  expect_packet(packet(1600 - kHeaderBytes, 2), 16);
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

TEST_F(NetReceive, APacketThatIsLargerThanARingOfChainsIsLost) {
  start(0, {.size = 16, .indirect = false});
  for (int i = 0; i < 8; ++i) post({50, 50});  // uses all 16 descriptors of the ring
  arrive(packet(1000, 1));
  arrive(packet(788, 2));
  expect_packet(packet(788, 2), 8);
}

TEST_F(NetReceive, WithoutBuffersNothingIsRead) {
  for (const uint64_t without : {uint64_t{0}, bit(VIRTIO_NET_F_MRG_RXBUF)}) {
    for (const bool event_index : {false, true}) {
      start(without, {.event_index = event_index});
      settle();
      const int calls = receive_calls();
      for (uint32_t i = 0; i < 10; ++i) arrive(packet(60, i));
      settle();
      EXPECT_EQ(receive_calls(), calls);
      EXPECT_EQ(waiting(), 10u);
      for (uint32_t i = 0; i < 10; ++i) (void)post({128});
      for (uint32_t i = 0; i < 10; ++i) expect_packet(packet(60, i));
      settle();
      EXPECT_LE(receive_calls(), calls + 21) << "once for each packet, and one look after a kick";
    }
  }
}

TEST_F(NetReceive, OneKickIsEnough) {
  start();
  for (uint32_t i = 0; i < 200; ++i) arrive(packet(60, i));
  for (int i = 0; i < 200; ++i) {
    auto request = queue(kReceive).chain().writable(128).publish();
    posted_[kReceive][request.head] = request;
  }
  ASSERT_TRUE(queue(kReceive).kick_wanted());
  regs().kick(kReceive);
  for (uint32_t i = 0; i < 200; ++i) expect_packet(packet(60, i));
}

TEST_F(NetReceive, InterruptsOnceForABatch) {
  for (const bool event_index : {false, true}) {
    start(0, {.event_index = event_index});
    const int before = line_.pulses();
    loop().call([&] {
      for (uint32_t i = 0; i < 50; ++i) network_->arrive(packet(60, i));
    });
    for (int i = 0; i < 50; ++i) {
      auto request = queue(kReceive).chain().writable(128).publish();
      posted_[kReceive][request.head] = request;
    }
    regs().kick(kReceive);
    for (uint32_t i = 0; i < 50; ++i) expect_packet(packet(60, i));
    settle();
    EXPECT_EQ(regs().take_causes(), MmioDriver::kQueueCause);
    EXPECT_EQ(line_.pulses(), before + 1);
  }
}

TEST_F(NetReceive, InterruptsWhenTheEventIndexIsPassed) {
  start(0, {.event_index = true});
  post_each(20, 128);
  queue(kReceive).want_interrupt_after(2);  // an interrupt for the third packet
  for (uint32_t i = 0; i < 2; ++i) {
    arrive(packet(60, i));
    expect_packet(packet(60, i));
  }
  settle();
  EXPECT_EQ(regs().take_causes(), 0u);
  arrive(packet(60, 3));
  EXPECT_TRUE(wait_for([&] { return regs().take_causes() == MmioDriver::kQueueCause; }));
}

TEST_F(NetReceive, ChainsWithoutRoomGoBack) {
  for (const uint64_t without : {uint64_t{0}, bit(VIRTIO_NET_F_MRG_RXBUF)}) {
    start(without);
    const auto read_only = queue(kReceive).chain().readable("read-only").publish();
    const auto empty = post({0});
    post({128});
    arrive(packet(60));
    EXPECT_EQ(take_used(kReceive), (FakeDriver::Used{read_only.head, 0}));
    EXPECT_EQ(take_used(kReceive), (FakeDriver::Used{empty.head, 0}));
    posted_[kReceive].erase(empty.head);
    expect_packet(packet(60));
  }
}

TEST_F(NetReceive, DoesNotReadFromTheDriversBuffers) {
  start();
  auto request = queue(kReceive).chain().readable("for the device").writable(128).publish();
  post(request, kReceive);
  arrive(packet(60));
  expect_packet(packet(60));
  EXPECT_EQ(std::memcmp(request.readable[0].data(), "for the device", 14), 0);
}

// --- filters and offloads ---

TEST_F(NetReceive, OffloadsThatWereNotAgreedToAreLost) {
  make(1, kAllOffloads);
  constexpr auto kSum = PacketHeader::kNeedsChecksum;
  const struct {
    uint64_t without;
    PacketHeader header;
  } packets[] = {
      {bit(VIRTIO_NET_F_GUEST_CSUM), {.flags = kSum}},
      {bit(VIRTIO_NET_F_GUEST_TSO4), {.flags = kSum, .segmentation = PacketHeader::kTcp4}},
      {bit(VIRTIO_NET_F_GUEST_TSO6), {.flags = kSum, .segmentation = PacketHeader::kTcp6}},
      {bit(VIRTIO_NET_F_GUEST_USO4), {.flags = kSum, .segmentation = PacketHeader::kUdp}},
      {bit(VIRTIO_NET_F_GUEST_USO6), {.flags = kSum, .segmentation = PacketHeader::kUdp}},
      {bit(VIRTIO_NET_F_GUEST_ECN),
       {.flags = kSum, .segmentation = PacketHeader::kTcp4 | PacketHeader::kEcn}},
      {0, {.flags = kSum, .segmentation = PacketHeader::kFragments}},
      {0, {.flags = kSum, .segmentation = 2}},
      {0, {.flags = kSum, .segmentation = 0x7f}},
  };
  for (const auto& [without, header] : packets) {
    start(without);
    post_each(4, 2048);
    arrive(packet(1000, 1, header));
    arrive(packet(60, 2));
    expect_packet(packet(60, 2));
    if (without == 0) continue;
    start();
    post_each(4, 2048);
    arrive(packet(1000, 1, header));
    expect_packet(packet(1000, 1, header));
  }
}

TEST_F(NetReceive, OffloadsThatTheDriverTurnedOffAreLost) {
  make(1, kAllOffloads);
  start();
  post_each(8, 2048);
  const PacketHeader header{.flags = 1, .segmentation = PacketHeader::kTcp4, .segment_bytes = 500};
  arrive(packet(1000, 1, header));
  expect_packet(packet(1000, 1, header));
  ASSERT_EQ(command(5, 0, bit(VIRTIO_NET_F_GUEST_CSUM)), VIRTIO_NET_OK);
  arrive(packet(1000, 2, header));
  arrive(packet(1000, 3, {.flags = 1}));
  expect_packet(packet(1000, 3, {.flags = 1}));
  ASSERT_EQ(command(5, 0, uint64_t{0}), VIRTIO_NET_OK);
  arrive(packet(1000, 4, {.flags = 1}));
  arrive(packet(1000, 5, {.flags = PacketHeader::kChecksumValid}));
  expect_packet(packet(1000, 5));
}

TEST_F(NetReceive, FlagsAreThoseOfTheSpecification) {
  make(1, kAllOffloads);
  start();
  post_each(4, 2048);
  arrive(packet(60, 1, {.flags = 0xfe}));
  expect_packet(packet(60, 1, {.flags = PacketHeader::kChecksumValid}));
  start(bit(VIRTIO_NET_F_GUEST_CSUM));
  post_each(4, 2048);
  arrive(packet(60, 1, {.flags = PacketHeader::kChecksumValid}));
  expect_packet(packet(60, 1));
}

TEST_F(NetReceive, WhatIsNoFrameIsLost) {
  start();
  post_each(4, 2048);
  arrive(packet(0));
  arrive(packet(13));
  arrive(packet(14));
  expect_packet(packet(14));
}

TEST_F(NetReceive, OtherStationsFramesAreLostWhenTheDriverSaysSo) {
  start();
  post_each(4, 2048);
  Packet other = packet(60, 1);
  other.frame[5] ^= std::byte{1};
  arrive(other);
  expect_packet(other);
  ASSERT_EQ(command(0, 0, uint8_t{0}), VIRTIO_NET_OK);
  arrive(other);
  arrive(packet(60, 2));
  expect_packet(packet(60, 2));
}

TEST_F(NetReceive, FramesAboveTheAgreedMtuAreLost) {
  make(1, kAllOffloads, 1000);
  const PacketHeader large{.flags = 1, .segmentation = PacketHeader::kTcp4, .segment_bytes = 500};
  start();
  post_each(8, 4096);
  arrive(packet(1019, 1));
  arrive(packet(1018, 2));  // with a VLAN tag
  arrive(packet(3000, 3, large));
  expect_packet(packet(1018, 2));
  expect_packet(packet(3000, 3, large));
  Packet tagged_twice = packet(1022, 4);
  store_be(std::span(tagged_twice.frame).subspan(12, 2), uint16_t{0x88a8});
  store_be(std::span(tagged_twice.frame).subspan(16, 2), uint16_t{0x8100});
  Packet too_long = tagged_twice;
  too_long.frame.push_back({});
  arrive(too_long);
  arrive(tagged_twice);
  expect_packet(tagged_twice);
  start(bit(VIRTIO_NET_F_MTU));
  post_each(8, 4096);
  arrive(packet(1019, 1));
  expect_packet(packet(1019, 1));
}

// --- turns, resets, broken rings ---

TEST_F(NetReceive, LeavesTheLoopToOthersWhenADriverGivesOnlyBuffersWithoutRoom) {
  start();
  for (int i = 0; i < 256; ++i) (void)queue(kReceive).chain().writable(0).publish();
  std::atomic<bool> stop = false;
  std::thread guest([&] {  // publishes the same chains again, faster than the device pops them
    while (!stop)
      queue(kReceive).set_available_index(
          static_cast<uint16_t>(queue(kReceive).used_index() + 256));
  });
  regs().kick(kReceive);
  for (int i = 0; i < 20; ++i) settle();
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
  stop = true;
  guest.join();
}

TEST_F(NetReceive, GoesOnAfterBuffersWithoutRoom) {
  start();
  arrive(packet(60));
  for (int i = 0; i < 255; ++i) (void)queue(kReceive).chain().writable(0).publish();
  post({128});
  for (int i = 0; i < 255; ++i) EXPECT_EQ(take_used(kReceive).written_bytes, 0u);
  expect_packet(packet(60));
}

TEST_F(NetReceive, LeavesTheLoopToOthersWhenPacketsNeverEnd) {
  start();
  post_each(256, 128);
  std::atomic<bool> stop = false;
  std::thread guest([&] {
    while (!stop)
      if (const auto used = queue(kReceive).take_used())
        queue(kReceive).make_available(static_cast<uint16_t>(used->head));
  });
  std::jthread network([&] {
    while (!stop) {
      loop().call([&] {
        for (int i = 0; i < 200; ++i) network_->arrive(packet(60));
      });
    }
  });
  settle();
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
  stop = true;
  guest.join();
}

TEST_F(NetReceive, AResetForgetsAPacketThatWaits) {
  start();
  post({100});
  arrive(packet(1000, 1));
  settle();
  regs().reset();
  start();
  post_each(4, 2048);
  arrive(packet(60, 2));
  expect_packet(packet(60, 2));
}

TEST_F(NetReceive, TouchesNoBufferAfterReset) {
  start();
  const auto request = post({128});
  settle();
  regs().reset();
  arrive(packet(60));
  settle();
  EXPECT_EQ(request.writable[0][0], std::byte{0xee});
}

TEST_F(NetReceive, AsksForAResetWhenTheRingIsBroken) {
  start();
  post_each(4, 128);
  arrive(packet(60, 1));
  expect_packet(packet(60, 1));
  queue(kReceive).set_available_index(1000);
  arrive(packet(60, 2));
  arrive(packet(1000, 3));  // needs more buffers
  regs().kick(kReceive);
  EXPECT_TRUE(wait_for([&] { return (regs().status() & MmioDriver::kNeedsReset) != 0; }));
  const int calls = receive_calls();
  arrive(packet(60, 3));
  settle();
  EXPECT_EQ(receive_calls(), calls);
  start();
  post_each(4, 2048);
  while (waiting() > 0) settle();
  arrive(packet(60, 4));
  for (int i = 0; i < 4; ++i) {
    const auto got = take_packet();
    if (got.frame == packet(60, 4).frame) return;
  }
  ADD_FAILURE() << "does not go on";
}

TEST_F(NetReceive, BuffersOutsideRamBreakTheRing) {
  start();
  (void)queue(kReceive).chain().writable_at({0xffffff000}, 128).publish();
  kick(kReceive);
  EXPECT_TRUE(wait_for([&] { return (regs().status() & MmioDriver::kNeedsReset) != 0; }));
}

// --- several queues ---

TEST_F(NetReceive, OnlyTheFirstQueueIsUsedUntilTheDriverWantsMore) {
  make(2);
  start();
  arrive(packet(60, 1), 1);
  post_each(4, 128, kReceive);
  post_each(4, 128, 2);
  regs().kick(2);
  settle();
  EXPECT_FALSE(take_used_now(2));
  ASSERT_EQ(command(4, 0, uint16_t{2}), VIRTIO_NET_OK);
  EXPECT_EQ(on_loop([&] { return network_->active_pairs(); }), 2);
  expect_packet(packet(60, 1), 1, 2);
  arrive(packet(60, 2), 1);
  expect_packet(packet(60, 2), 1, 2);
  arrive(packet(60, 3), 0);
  expect_packet(packet(60, 3), 1, kReceive);
}

TEST_F(NetReceive, AQueueThatIsGivenUpGetsNothingAnyMore) {
  make(2);
  start();
  ASSERT_EQ(command(4, 0, uint16_t{2}), VIRTIO_NET_OK);
  post({100}, 2);
  arrive(packet(1000, 1), 1);  // waits for more buffers
  settle();
  ASSERT_EQ(command(4, 0, uint16_t{1}), VIRTIO_NET_OK);
  arrive(packet(60, 2), 1);
  post_each(20, 128, 2);
  regs().kick(2);
  settle();
  EXPECT_FALSE(take_used_now(2));
}

}  // namespace
}  // namespace wick::virtio
