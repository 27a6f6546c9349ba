// Tests how the 82540EM delivers received packets to a driver.
#include "tests/devices/e1000/fixture.h"
#include "tests/fakes/frames.h"

namespace wick::devices {
namespace {

using namespace e1000;
using net::PacketHeader;
using testing::Each;
using Status = ReceiveDescriptor;

constexpr uint8_t kWhole = kDone | Status::kEndOfPacket;
constexpr net::MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr net::MacAddress kOther = {2, 0, 0, 0, 0, 9};
constexpr net::MacAddress kGroup = {1, 0, 0x5e, 0, 0, 0xfb};

class E1000ReceiveTest : public E1000Test {
 protected:
  void start(uint32_t rctl = 0, uint32_t free = Driver::kDescriptors - 1) {
    driver_.start_receiver(rctl | kStripCrc);
    driver_.set(kRdt, free);
    settle();
  }
  void receive(Bytes data, PacketHeader header = {}) {
    arrive(std::move(data), header);
    settle();
  }
  // Returns how many of these frames pass the filters.
  uint32_t received_of(std::initializer_list<Bytes> frames) {
    const uint32_t before = driver_.get(kRdh);
    for (const Bytes& each : frames) arrive(each);
    settle();
    const uint32_t after = driver_.get(kRdh);
    driver_.set(kRdt, (after + Driver::kDescriptors - 1) % Driver::kDescriptors);
    return (after + Driver::kDescriptors - before) % Driver::kDescriptors;
  }
};

// --- frames ---

TEST_F(E1000ReceiveTest, GivesAFrameToTheDriver) {
  start();
  driver_.set(kIms, kRxt0);
  const Bytes data = frame(100);
  receive(data);
  EXPECT_EQ(driver_.get(kRdh), 1u);
  EXPECT_EQ(driver_.received(0).status & kWhole, kWhole);
  EXPECT_EQ(driver_.received(0).errors, 0);
  EXPECT_EQ(driver_.received_bytes(0), data);
  EXPECT_EQ(line_.edges(), 1);
  EXPECT_EQ(driver_.get(kIcr), kRxt0);
}

TEST_F(E1000ReceiveTest, TheCheckSequenceIsThereUnlessItIsStripped) {
  driver_.start_receiver(0);
  driver_.set(kRdt, 8);
  receive(frame(100));
  EXPECT_EQ(driver_.received(0).length, 104);
  driver_.set(kRctl, kReceiveEnable | kStripCrc);
  receive(frame(100));
  EXPECT_EQ(driver_.received(1).length, 100);
}

TEST_F(E1000ReceiveTest, AShortFrameIsPaddedAsOnAWire) {
  start();
  receive(frame(300));
  receive(frame(42));
  ASSERT_EQ(driver_.received(1).length, 60);
  EXPECT_EQ(part(driver_.received_bytes(1), 0, 42), frame(42));
  EXPECT_THAT(part(driver_.received_bytes(1), 42, 18), Each(std::byte{0}));
}

TEST_F(E1000ReceiveTest, FillsAsManyBuffersAsAFrameNeeds) {
  start(3 << 16);  // buffers of 256 bytes
  const Bytes data = frame(1000);
  receive(data);
  EXPECT_EQ(driver_.get(kRdh), 4u);
  Bytes whole;
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(driver_.received(i).status & kWhole, i == 3 ? kWhole : kDone);
    EXPECT_EQ(driver_.received(i).length, i == 3 ? 232 : 256);
    const Bytes piece = driver_.received_bytes(i);
    whole.insert(whole.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(whole, data);
}

TEST_F(E1000ReceiveTest, BuffersHaveTheSizeThatTheRegisterSays) {
  EXPECT_EQ(buffer_bytes(0), 2048u);
  EXPECT_EQ(buffer_bytes(1 << 16), 1024u);
  EXPECT_EQ(buffer_bytes(2 << 16), 512u);
  EXPECT_EQ(buffer_bytes(3 << 16), 256u);
  EXPECT_EQ(buffer_bytes(1 << 16 | kSizeExtension), 16384u);
  EXPECT_EQ(buffer_bytes(2 << 16 | kSizeExtension), 8192u);
  EXPECT_EQ(buffer_bytes(3 << 16 | kSizeExtension), 4096u);
}

TEST_F(E1000ReceiveTest, LongFramesNeedToBeAllowed) {
  start();
  receive(frame(1518));
  receive(frame(1519));
  EXPECT_EQ(driver_.get(kRdh), 1u);
  EXPECT_EQ(driver_.get(kRoc), 1u);
  driver_.set(kRctl, kReceiveEnable | kLongPackets | kStripCrc | kSizeExtension | 1 << 16);
  receive(frame(9014));
  receive(frame(16381));
  EXPECT_EQ(driver_.get(kRdh), 2u);
  EXPECT_EQ(driver_.received(1).length, 9014);
  EXPECT_EQ(driver_.get(kRoc), 1u) << "more than the chip takes";
}

TEST_F(E1000ReceiveTest, ADescriptorWithoutAnAddressIsPassedOver) {
  start();
  for (const uint64_t index : {0, 1, 3})
    memory_.write({Driver::kReceiveRing + 16 * index}, ReceiveDescriptor()).value();
  driver_.set(kRctl, kReceiveEnable | kStripCrc | 1 << 16);
  const Bytes data = frame(1100);
  receive(data);
  EXPECT_EQ(driver_.get(kRdh), 5u);
  for (const uint32_t index : {0, 1, 3}) {
    EXPECT_EQ(driver_.received(index).status, kDone);
    EXPECT_EQ(driver_.received(index).length, 0);
  }
  EXPECT_EQ(driver_.received(2).length, 1024);
  EXPECT_EQ(driver_.received(4).status & kWhole, kWhole);
  EXPECT_EQ(driver_.received_bytes(4), part(data, 1024, 76));
}

TEST_F(E1000ReceiveTest, GoesRoundItsRing) {
  start();
  for (uint32_t i = 0; i < 3 * Driver::kDescriptors; ++i) {
    receive(frame(60 + i));
    ASSERT_EQ(driver_.get(kRdh), (i + 1) % Driver::kDescriptors);
    ASSERT_EQ(driver_.received_bytes(i % Driver::kDescriptors), frame(60 + i));
    driver_.set(kRdt, i % Driver::kDescriptors);
  }
}

TEST_F(E1000ReceiveTest, ABatchIsOneInterrupt) {
  start();
  driver_.set(kIms, kRxt0);
  for (int i = 0; i < 7; ++i) arrive(frame(100));
  settle();
  EXPECT_EQ(driver_.get(kRdh), 7u);
  EXPECT_EQ(line_.sets(), 1);
}

TEST_F(E1000ReceiveTest, WithInterruptsMaskedPacketsComeAllTheSame) {
  start();
  for (int i = 0; i < 7; ++i) receive(frame(100));
  EXPECT_EQ(driver_.get(kRdh), 7u);
  EXPECT_EQ(line_.sets(), 0);
  driver_.set(kIms, kRxt0);
  EXPECT_TRUE(line_.level()) << "what came meanwhile is told now";
}

// --- buffers ---

TEST_F(E1000ReceiveTest, WithoutBuffersThePacketsStayOutside) {
  start(0, 2);
  for (int i = 0; i < 5; ++i) arrive(frame(100 + static_cast<size_t>(i)));
  settle();
  EXPECT_EQ(driver_.get(kRdh), 2u);
  EXPECT_EQ(network_.waiting(), 3u);
  EXPECT_EQ(driver_.get(kRnbc), 1u);
  const int calls = network_.receive_calls;
  settle();
  EXPECT_EQ(network_.receive_calls, calls) << "it does not ask again and again";
  driver_.set(kRdt, 15);
  settle();
  EXPECT_EQ(network_.waiting(), 0u);
  EXPECT_EQ(driver_.get(kRdh), 5u);
  EXPECT_EQ(driver_.received(4).length, 104) << "none was lost, in their order";
}

TEST_F(E1000ReceiveTest, AFrameWaitsUntilThereAreEnoughBuffers) {
  start(3 << 16, 3);
  const Bytes data = frame(1000);
  receive(data);
  EXPECT_EQ(driver_.get(kRdh), 0u);
  EXPECT_EQ(driver_.received(0).status, 0) << "nothing of it is there yet";
  driver_.set(kRdt, 4);
  settle();
  EXPECT_EQ(driver_.get(kRdh), 4u);
  EXPECT_EQ(driver_.received_bytes(3), part(data, 768, 232));
}

TEST_F(E1000ReceiveTest, AFrameThatNoRingOfThisSizeTakesIsDropped) {
  driver_.start_receiver(kStripCrc | kLongPackets | 3 << 16, 8);
  driver_.set(kIms, kRxo);
  driver_.set(kRdt, 7);
  receive(frame(2000));
  EXPECT_TRUE(line_.level());
  EXPECT_EQ(driver_.get(kMpc), 1u);
  receive(frame(200));
  EXPECT_EQ(driver_.get(kRdh), 1u) << "the next one is not";
}

TEST_F(E1000ReceiveTest, SaysWhenFewBuffersAreLeft) {
  start(1 << 8);  // RDMTS: a quarter of the ring
  driver_.set(kIms, kRxdmt0);
  for (int i = 0; i < 10; ++i) receive(frame(100));
  EXPECT_FALSE(line_.level());
  receive(frame(100));
  EXPECT_TRUE(line_.level()) << "four of sixteen";
}

TEST_F(E1000ReceiveTest, TakesNothingWhileItIsDisabled) {
  for (int i = 0; i < 3; ++i) receive(frame(100));
  EXPECT_EQ(network_.waiting(), 3u);
  start();
  EXPECT_EQ(driver_.get(kRdh), 3u);
  driver_.set(kRctl, 0);
  receive(frame(100));
  EXPECT_EQ(driver_.get(kRdh), 3u);
}

// --- filters ---

TEST_F(E1000ReceiveTest, LetsInWhatIsForItsAddress) {
  start();
  EXPECT_EQ(
      received_of({frame(100), frame(100, kOther), frame(100, kBroadcast), frame(100, kGroup)}),
      1u);
  // The last of the sixteen addresses.
  driver_.set(kRa + 8 * 15, 0x00000002);
  driver_.set(kRa + 8 * 15 + 4, kAddressValid | 0x0900);
  EXPECT_EQ(received_of({frame(100), frame(100, kOther)}), 2u);
  driver_.set(kRa + 8 * 15 + 4, 0x0900);
  EXPECT_EQ(received_of({frame(100), frame(100, kOther)}), 1u) << "not valid";
}

TEST_F(E1000ReceiveTest, LetsInWhatThePromiscuousBitsSay) {
  const auto all = {frame(100, kOther), frame(100, kBroadcast), frame(100, kGroup)};
  start(kUnicastPromiscuous);
  EXPECT_EQ(received_of(all), 1u);
  start(kMulticastPromiscuous);
  EXPECT_EQ(received_of(all), 2u);
  start(kBroadcastAccept);
  EXPECT_EQ(received_of(all), 1u);
  start(kBroadcastAccept | kUnicastPromiscuous | kMulticastPromiscuous);
  EXPECT_EQ(received_of(all), 3u);
}

TEST_F(E1000ReceiveTest, LetsInGroupsByTheirHash) {
  // 13.5.1: the index is bits 47 to 36, 46 to 35, 45 to 34, or 43 to 32 of the address.
  constexpr net::MacAddress kExample = {0x13, 0x34, 0x56, 0x78, 0x9a, 0xbc};
  constexpr std::array<uint32_t, 4> kHashes = {0xbc9, 0x793, 0xf26, 0xc9a};
  for (uint32_t offset = 0; offset < 4; ++offset) {
    start(offset << 12);
    EXPECT_EQ(received_of({frame(100, kExample)}), 0u);
    const uint32_t word = kMta + 4 * (kHashes[offset] / 32);
    driver_.set(word, 1u << kHashes[offset] % 32);
    const uint32_t at = driver_.get(kRdh);
    EXPECT_EQ(received_of({frame(100, kExample)}), 1u) << offset;
    EXPECT_NE(driver_.received(at).status & Status::kInexact, 0);
    driver_.set(word, 0);
  }
}

TEST_F(E1000ReceiveTest, FiltersVlans) {
  start(kVlanFilter);
  EXPECT_EQ(received_of({tagged_frame(100, 0x0123), frame(100)}), 1u);
  driver_.set(kVfta + 4 * (0x123 / 32), 1u << 0x123 % 32);
  EXPECT_EQ(received_of({tagged_frame(100, 0x6123), tagged_frame(100, 0x0124)}), 1u);
  EXPECT_EQ(received_of({tagged_frame(100, 0x0123, kOther)}), 0u) << "the address counts too";
  start(kVlanFilter | kCanonicalFilter);
  EXPECT_EQ(received_of({tagged_frame(100, 0x1123), tagged_frame(100, 0x0123)}), 1u);
  start(0);
  EXPECT_EQ(received_of({tagged_frame(100, 0x0fff)}), 1u);
}

TEST_F(E1000ReceiveTest, StripsVlanTags) {
  start();
  const Bytes data = tagged_frame(100, 0x6123);
  receive(data);
  EXPECT_EQ(driver_.received_bytes(0), data);
  EXPECT_EQ(driver_.received(0).status & Status::kVlanPacket, 0);
  driver_.set(kCtrl, kVlanMode);
  receive(data);
  Bytes stripped = data;
  stripped.erase(stripped.begin() + 12, stripped.begin() + 16);
  EXPECT_EQ(driver_.received_bytes(1), stripped);
  EXPECT_NE(driver_.received(1).status & Status::kVlanPacket, 0);
  EXPECT_EQ(driver_.received(1).special, 0x6123);
  receive(frame(100));
  EXPECT_EQ(driver_.received_bytes(2), frame(100));
  EXPECT_EQ(driver_.received(2).status & Status::kVlanPacket, 0);
}

// A frame with two tags and a full payload is received although LPE is clear.
TEST_F(E1000ReceiveTest, AFullFrameMayHaveTwoTags) {
  start();
  for (const uint16_t outer : std::to_array<uint16_t>({0x8100, 0x88a8, 0x9100})) {
    const uint32_t at = driver_.get(kRdh);
    Bytes data = frame(1522, kMac, outer);
    store_be(std::span(data).subspan(16, 2), uint16_t{0x8100});
    receive(data);
    ASSERT_EQ(driver_.get(kRdh), at + 1) << std::hex << outer;
    EXPECT_EQ(driver_.received_bytes(at), data);
  }
  const uint32_t before = driver_.get(kRdh);
  Bytes longer = frame(1523, kMac, 0x88a8);
  store_be(std::span(longer).subspan(16, 2), uint16_t{0x8100});
  receive(longer);
  receive(frame(1522, kMac, 0x88a8));  // one tag
  EXPECT_EQ(driver_.get(kRdh), before);
  EXPECT_EQ(driver_.get(kRoc), 2u);
}

// The tag of a frame that ends there is padding, 0, and not bytes of an earlier packet.
TEST_F(E1000ReceiveTest, AFrameThatEndsInOrBehindItsTagIsPadded) {
  start();
  driver_.set(kCtrl, kVlanMode);
  for (size_t bytes = 14; bytes <= 20; ++bytes) {
    receive(Bytes(300, std::byte{0xff}));  // a broadcast, which fills the card's buffer
    const uint32_t at = driver_.get(kRdh);
    Bytes data = tagged_frame(std::max<size_t>(bytes, 16), 0x0123);
    data.resize(bytes);
    receive(data);
    ASSERT_EQ(driver_.get(kRdh), at + 1) << bytes;
    data.resize(60);
    EXPECT_EQ(driver_.received(at).special, word_at(data, 14)) << bytes;
    EXPECT_NE(driver_.received(at).status & Status::kVlanPacket, 0);
    data.erase(data.begin() + 12, data.begin() + 16);
    EXPECT_EQ(driver_.received_bytes(at), data) << bytes;
  }
}

// A frame that is too short to have a tag passes only the filter of VLAN 0.
TEST_F(E1000ReceiveTest, AFrameThatEndsBeforeItsTagIsOfVlanZero) {
  start(kVlanFilter);
  Bytes data = tagged_frame(16, 0);
  data.resize(14);
  EXPECT_EQ(received_of({data}), 0u);
  driver_.set(kVfta, 1);
  EXPECT_EQ(received_of({data}), 1u);
}

// --- checksums ---

TEST_F(E1000ReceiveTest, AChecksumIsGoodOnlyIfSomebodyLooked) {
  driver_.set(kRxcsum, kReportTcpUdp);
  start();
  const auto status_of = [&](PacketHeader header) {
    const uint32_t at = driver_.get(kRdh);
    receive(frame(100), header);
    return driver_.received(at).status & (Status::kIgnoreChecksum | Status::kTcpChecksum);
  };
  EXPECT_EQ(status_of({}), Status::kIgnoreChecksum);
  EXPECT_EQ(status_of({.flags = PacketHeader::kChecksumValid}), Status::kTcpChecksum);
  EXPECT_EQ(status_of({.flags = PacketHeader::kNeedsChecksum, .checksum_start = 34}),
            Status::kTcpChecksum)
      << "it is made here";
  driver_.set(kRxcsum, 0);
  EXPECT_EQ(status_of({.flags = PacketHeader::kChecksumValid}), Status::kIgnoreChecksum);
}

// --- checksums and segmentation left by the back end ---

class E1000LargePacketTest : public E1000ReceiveTest {
 protected:
  static constexpr size_t kHeaders = 14 + 20 + 20;
  static constexpr size_t kPayload = 3000;
  static constexpr uint16_t kSegment = 1200;

  // A TCP packet over IPv4 that becomes frames with 1200, 1200 and 600 bytes of payload.
  static fakes::Packet large(uint16_t vlan = 0) {
    constexpr uint32_t kFrom = 0x0a000001;
    constexpr uint32_t kTo = 0x0a000002;
    const auto segment = fakes::tcp({.from = 1, .to = 2, .sequence = 5000, .flags = fakes::kAck},
                                    fakes::counting_bytes(kPayload));
    const auto sum = fakes::pseudo_sum4(kFrom, kTo, fakes::kTcp, segment.size());
    const fakes::Ip4Header ip{.from = kFrom, .to = kTo, .protocol = fakes::kTcp};
    fakes::Packet packet;
    packet.frame =
        fakes::ethernet(kMac, kOther, fakes::kIp4Type,
                        fakes::ip4(ip, fakes::with_partial_checksum(segment, fakes::kTcp, sum)));
    if (vlan != 0) packet.frame = fakes::with_vlan(packet.frame, vlan);
    packet.header.flags = PacketHeader::kNeedsChecksum;
    packet.header.segmentation = PacketHeader::kTcp4;
    packet.header.segment_bytes = kSegment;
    packet.header.checksum_start = vlan != 0 ? 38 : 34;
    packet.header.checksum_offset = 16;
    return packet;
  }
  void receive_large(uint16_t vlan = 0) {
    network_.arrive(large(vlan));
    settle();
  }

  // Expects this segment, without a tag, in the descriptor with this index.
  void expect_segment(uint32_t index, size_t number) {
    const size_t start = number * kSegment;
    const size_t bytes = std::min<size_t>(kSegment, kPayload - start);
    const Bytes got = part(driver_.received_bytes(index), 0, kHeaders + bytes);
    EXPECT_EQ(part(got, kHeaders, bytes), part(fakes::counting_bytes(kPayload), start, bytes));
    EXPECT_EQ(fakes::get32(got, 38), 5000 + start);
    const auto transport = std::span(got).subspan(34);
    const uint32_t pseudo =
        fakes::pseudo_sum4(0x0a000001, 0x0a000002, fakes::kTcp, transport.size());
    EXPECT_EQ(fakes::ones_complement_sum(transport, pseudo), 0xffff);
  }
};

TEST_F(E1000LargePacketTest, AsksForAllThatTheBackEndHas) {
  EXPECT_EQ(network_.offloads(), network_.supported_offloads());
}

TEST_F(E1000LargePacketTest, BecomesFrames) {
  driver_.set(kRxcsum, kReportTcpUdp);
  start();
  receive_large();
  EXPECT_EQ(driver_.get(kRdh), 3u);
  for (uint32_t i = 0; i < 3; ++i) {
    expect_segment(i, i);
    EXPECT_EQ(driver_.received(i).status, kWhole | Status::kTcpChecksum);
  }
  EXPECT_EQ(driver_.received(2).length, kHeaders + 600);
  EXPECT_EQ(driver_.get(kGprc), 3u);
  EXPECT_EQ(driver_.get(kGorcl), 3 * (kHeaders + 4) + kPayload);
}

TEST_F(E1000LargePacketTest, ItsCheckSequencesAreNoPartOfWhatComesNext) {
  driver_.start_receiver(0);
  driver_.set(kRdt, 8);
  receive_large();
  EXPECT_EQ(driver_.received(0).length, kHeaders + kSegment + 4);
  for (uint32_t i = 0; i < 3; ++i) expect_segment(i, i);
}

TEST_F(E1000LargePacketTest, ItsTagIsStrippedFromEachFrame) {
  driver_.set(kCtrl, kVlanMode);
  start();
  receive_large(0x123);
  for (uint32_t i = 0; i < 3; ++i) {
    expect_segment(i, i);
    EXPECT_EQ(driver_.received(i).special, 0x123);
  }
}

TEST_F(E1000LargePacketTest, TheRestOfItWaitsForBuffers) {
  start(0, 1);
  receive_large();
  receive(frame(100));
  EXPECT_EQ(driver_.get(kRdh), 1u);
  driver_.set(kRdt, 2);
  settle();
  EXPECT_EQ(driver_.get(kRdh), 2u);
  driver_.set(kRdt, 8);
  settle();
  EXPECT_EQ(driver_.get(kRdh), 4u);
  for (uint32_t i = 0; i < 3; ++i) expect_segment(i, i);
  EXPECT_EQ(driver_.received_bytes(3), frame(100));
}

TEST_F(E1000LargePacketTest, TheRestOfItIsDroppedByAReset) {
  start(0, 1);
  receive_large();
  driver_.set(kCtrl, kReset);
  settle();
  start();
  receive(frame(100));
  EXPECT_EQ(driver_.get(kRdh), 1u);
  EXPECT_EQ(driver_.received_bytes(0), frame(100));
}

TEST_F(E1000LargePacketTest, OneThatContradictsItselfIsDropped) {
  start();
  auto packet = large();
  packet.header.segment_bytes = 0;
  network_.arrive(packet);
  receive(frame(100));
  EXPECT_EQ(driver_.get(kRdh), 1u);
  EXPECT_EQ(driver_.received_bytes(0), frame(100));
}

// --- counters ---

TEST_F(E1000ReceiveTest, CountsWhatItReceives) {
  start(kBroadcastAccept | kMulticastPromiscuous);
  for (const size_t size : {42, 100, 1514}) receive(frame(size));
  receive(frame(200, kBroadcast));
  receive(frame(200, kGroup));
  receive(frame(200, kOther));
  EXPECT_EQ(driver_.get(kGprc), 5u);
  EXPECT_EQ(driver_.get(kTpr), 5u);
  EXPECT_EQ(driver_.get(kBprc), 1u);
  EXPECT_EQ(driver_.get(kMprc), 1u);
  EXPECT_EQ(driver_.get(kPrc64), 1u);
  EXPECT_EQ(driver_.get(kPrc64 + 4), 1u);
  EXPECT_EQ(driver_.get(kPrc64 + 8), 2u);
  EXPECT_EQ(driver_.get(kPrc64 + 20), 1u);
  EXPECT_EQ(driver_.get(kGorcl), 60u + 100 + 1514 + 200 + 200 + 20);
  EXPECT_EQ(driver_.get(kGprc), 0u);
}

}  // namespace
}  // namespace wick::devices
