// Tests the packets that the 82540EM makes from transmit descriptors.
#include "tests/devices/e1000/fixture.h"

namespace wick::devices {
namespace {

using namespace e1000;
using net::PacketHeader;
using testing::Each;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint32_t kEnd = TransmitDescriptor::kEndOfPacket;
constexpr uint32_t kReport = TransmitDescriptor::kReportStatus;
constexpr uint32_t kSegment = TransmitDescriptor::kSegment;
constexpr uint32_t kVlan = TransmitDescriptor::kVlan;
constexpr uint8_t kIp = TransmitDescriptor::kIpChecksum;
constexpr uint8_t kTcpUdp = TransmitDescriptor::kTcpUdpChecksum;

// Sizes of headers.
constexpr size_t kEthernet = 14;
constexpr size_t kIpv4 = 20;
constexpr size_t kIpv6 = 40;
constexpr size_t kTcp = 32;

class E1000TransmitTest : public E1000Test {
 protected:
  static constexpr uint64_t kData = Driver::kTransmitData;

  E1000TransmitTest() { driver_.start_transmitter(); }

  void send() {
    driver_.send();
    settle();
  }
  void send_legacy(const Bytes& data, uint32_t flags = kEnd | kReport) {
    fill(data);
    driver_.put(Driver::legacy(kData, data.size(), flags));
    send();
  }
  void put_context(const ContextDescriptor& context) { driver_.put(context); }
  const fakes::Packet& sent(size_t index = 0) { return network_.sent.at(index); }

  // TCP over IPv4 or IPv6, with headers as a driver prepares them for segmentation:
  // without lengths, also in the pseudo header sum.
  static Bytes tcp4(size_t payload_bytes) {
    Bytes result = frame(kEthernet);
    append(result, {0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 0x40, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2});
    add_tcp(result, pseudo(part(result, kEthernet + 12, 8)), payload_bytes);
    return result;
  }
  static Bytes tcp6(size_t payload_bytes) {
    Bytes result = frame(kEthernet, kMac, 0x86dd);
    append(result, {0x60, 0, 0, 0, 0, 0, 6, 64});
    for (const int last : {1, 2}) {
      append(result, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last});
    }
    add_tcp(result, pseudo(part(result, kEthernet + 8, 32)), payload_bytes);
    return result;
  }
  static ContextDescriptor segmentation(bool ipv4, uint16_t segment_bytes) {
    const size_t tcp = kEthernet + (ipv4 ? kIpv4 : kIpv6);
    return {.ip_start = kEthernet,
            .ip_offset = kEthernet + 10,
            .ip_end = static_cast<uint16_t>(ipv4 ? tcp - 1 : 0),
            .tcp_start = static_cast<uint8_t>(tcp),
            .tcp_offset = static_cast<uint8_t>(tcp + 16),
            .tcp_end = 0,
            .lower = TransmitDescriptor::kExtended | ContextDescriptor::kSegment |
                     ContextDescriptor::kTcp | (ipv4 ? ContextDescriptor::kIpv4 : 0),
            .header_bytes = static_cast<uint8_t>(tcp + kTcp),
            .segment_bytes = segment_bytes};
  }
  void send_segmented(const ContextDescriptor& context, const Bytes& data, uint32_t flags = 0) {
    fill(data);
    put_context(context);
    // Linux uses a descriptor for the headers and further ones for pieces of the rest.
    const size_t headers = std::min<size_t>(66, data.size());
    driver_.put(Driver::data(kData, headers, kSegment | flags, kIp | kTcpUdp));
    if (data.size() > headers)
      driver_.put(Driver::data(kData + headers, data.size() - headers, kSegment | flags | kEnd, 0));
    send();
  }
  // The Internet checksum (RFC 1071).
  static uint16_t sum(const Bytes& of, uint32_t start = 0) {
    uint32_t total = start;
    for (size_t i = 0; i < of.size(); i += 2)
      total += std::to_integer<uint32_t>(of[i]) << 8 |
               (i + 1 < of.size() ? std::to_integer<uint32_t>(of[i + 1]) : 0);
    while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
    return static_cast<uint16_t>(total);
  }

 private:
  static void append(Bytes& to, std::initializer_list<int> values) {
    const Bytes more = bytes(values);
    to.insert(to.end(), more.begin(), more.end());
  }
  static uint16_t pseudo(const Bytes& addresses) { return sum(addresses, 6); }
  static void add_tcp(Bytes& to, uint16_t check, size_t payload_bytes) {
    append(to, {0,          80,           0x10, 0, 0, 0, 0, 1,  0, 0, 0, 2, 0x80, 0x18, 1, 0,
                check >> 8, check & 0xff, 0,    0, 1, 1, 8, 10, 0, 0, 0, 1, 0,    0,    0, 2});
    for (size_t i = 0; i < payload_bytes; ++i) to.push_back(static_cast<std::byte>(i * 7));
  }
};

// --- plain frames ---

TEST_F(E1000TransmitTest, SendsALegacyFrame) {
  const Bytes data = frame(100);
  send_legacy(data);
  ASSERT_THAT(network_.sent, SizeIs(1));
  EXPECT_EQ(sent().frame, data);
  EXPECT_EQ(sent().header.flags, 0);
  EXPECT_EQ(sent().header.segmentation, PacketHeader::kNone);
  EXPECT_EQ(driver_.get(kTdh), 1u);
  EXPECT_EQ(driver_.transmitted(0).status, 1) << "done";
  EXPECT_EQ(driver_.get(kIcr) & kTxdw, kTxdw);
}

TEST_F(E1000TransmitTest, WritesBackOnlyWhereItIsAskedTo) {
  fill(frame(100));
  driver_.put(Driver::legacy(kData, 50, kReport));
  driver_.put(Driver::legacy(kData + 50, 50, kEnd));
  send();
  EXPECT_EQ(driver_.transmitted(0).status, 1);
  EXPECT_EQ(driver_.transmitted(1).status, 0);
  driver_.put(Driver::legacy(kData, 100, kEnd));
  (void)driver_.get(kIcr);
  send();
  EXPECT_EQ(driver_.get(kIcr), kTxqe) << "the queue is empty, and nothing was written back";
}

TEST_F(E1000TransmitTest, SendsAFrameOfManyPieces) {
  const Bytes data = frame(1514);
  fill(data);
  fill(part(data, 700, 814), kData + 0x5000);
  driver_.put(Driver::data(kData, 3, 0, 0));
  driver_.put(Driver::data(kData + 3, 0, 0, 0));
  driver_.put(Driver::data(kData + 3, 697, 0, 0));
  driver_.put(Driver::data(kData + 0x5000, 814, kEnd | kReport, 0));
  send();
  ASSERT_THAT(network_.sent, SizeIs(1));
  EXPECT_EQ(sent().frame, data);
  EXPECT_EQ(driver_.transmitted(3).status, 1);
}

TEST_F(E1000TransmitTest, WaitsForTheEndOfAPacket) {
  const Bytes data = frame(100);
  fill(data);
  driver_.put(Driver::legacy(kData, 60, kReport));
  send();
  EXPECT_THAT(network_.sent, IsEmpty());
  EXPECT_EQ(driver_.transmitted(0).status, 0) << "its buffer is still in use";
  driver_.put(Driver::legacy(kData + 60, 40, kEnd | kReport));
  send();
  ASSERT_THAT(network_.sent, SizeIs(1));
  EXPECT_EQ(sent().frame, data);
  EXPECT_EQ(driver_.transmitted(0).status, 1);
}

TEST_F(E1000TransmitTest, GoesRoundItsRing) {
  for (uint32_t i = 0; i < 5 * Driver::kDescriptors; ++i) {
    send_legacy(frame(60 + i));
    ASSERT_EQ(driver_.get(kTdh), (i + 1) % Driver::kDescriptors);
  }
  ASSERT_THAT(network_.sent, SizeIs(5 * Driver::kDescriptors));
  EXPECT_EQ(sent(79).frame, frame(139));
}

TEST_F(E1000TransmitTest, SendsABatchWithOneInterrupt) {
  driver_.set(kIms, kTxdw);
  fill(frame(100));
  for (int i = 0; i < 10; ++i) driver_.put(Driver::legacy(kData, 100, kEnd | kReport));
  send();
  EXPECT_THAT(network_.sent, SizeIs(10));
  EXPECT_EQ(line_.edges(), 1);
  EXPECT_EQ(line_.sets(), 1);
}

TEST_F(E1000TransmitTest, DoesNotSendWhileItIsDisabled) {
  driver_.set(kTctl, 0);
  send_legacy(frame(100));
  EXPECT_THAT(network_.sent, IsEmpty());
  driver_.set(kTctl, kTransmitEnable);
  settle();
  EXPECT_THAT(network_.sent, SizeIs(1));
}

TEST_F(E1000TransmitTest, PadsShortFramesIfItIsToldTo) {
  const Bytes data = frame(42);
  send_legacy(data);
  EXPECT_EQ(sent(0).frame, data);
  driver_.set(kTctl, kTransmitEnable | kPadShortPackets);
  send_legacy(data);
  ASSERT_THAT(sent(1).frame, SizeIs(60));
  EXPECT_EQ(part(sent(1).frame, 0, 42), data);
  EXPECT_THAT(part(sent(1).frame, 42, 18), Each(std::byte{0}));
}

TEST_F(E1000TransmitTest, CountsWhatItSends) {
  send_legacy(frame(60));
  send_legacy(frame(1514, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}));
  send_legacy(frame(200, {1, 0, 0x5e, 0, 0, 1}));
  fill(frame(100));
  driver_.put(Driver::legacy(kData, 2, 0));  // splits the destination address
  driver_.put(Driver::legacy(kData + 2, 98, kEnd));
  send();
  EXPECT_EQ(driver_.get(kGptc), 4u);
  EXPECT_EQ(driver_.get(kTpt), 4u);
  EXPECT_EQ(driver_.get(kBptc), 1u);
  EXPECT_EQ(driver_.get(kMptc), 1u);
  EXPECT_EQ(driver_.get(kPtc64), 1u);
  EXPECT_EQ(driver_.get(kPtc64 + 4), 1u);
  EXPECT_EQ(driver_.get(kPtc64 + 8), 1u);
  EXPECT_EQ(driver_.get(kPtc64 + 20), 1u);
  EXPECT_EQ(driver_.get(kGotcl), 60u + 1514 + 200 + 100 + 16);
  EXPECT_EQ(driver_.get(kTotl), 60u + 1514 + 200 + 100 + 16);
  EXPECT_EQ(driver_.get(kGptc), 0u) << "reading clears";
  EXPECT_NE(driver_.get(kTotl), 0u) << "reading the lower half does not";
  (void)driver_.get(kTotl + 4);
  EXPECT_EQ(driver_.get(kTotl), 0u);
}

// --- checksums ---

TEST_F(E1000TransmitTest, ALegacyChecksumIsTheReceiversToMake) {
  const Bytes data = frame(100);
  fill(data);
  auto descriptor =
      Driver::legacy(kData, 100, kEnd | TransmitDescriptor::kInsertChecksum | 50 << 16);
  descriptor.options = 34;
  driver_.put(descriptor);
  send();
  EXPECT_EQ(sent().header.flags, PacketHeader::kNeedsChecksum);
  EXPECT_EQ(sent().header.checksum_start, 34);
  EXPECT_EQ(sent().header.checksum_offset, 16);
  EXPECT_EQ(sent().frame, data);
}

TEST_F(E1000TransmitTest, ATcpChecksumIsTheReceiversToMake) {
  const Bytes data = frame(100);
  fill(data);
  put_context({.tcp_start = 34, .tcp_offset = 50, .lower = TransmitDescriptor::kExtended});
  driver_.put(Driver::data(kData, 100, kEnd, kTcpUdp));
  driver_.put(Driver::data(kData, 100, kEnd, 0));
  send();
  ASSERT_THAT(network_.sent, SizeIs(2));
  EXPECT_EQ(sent(0).header.flags, PacketHeader::kNeedsChecksum);
  EXPECT_EQ(sent(0).header.checksum_start, 34);
  EXPECT_EQ(sent(0).header.checksum_offset, 16);
  EXPECT_EQ(sent(0).frame, data);
  EXPECT_EQ(sent(1).header.flags, 0);
}

TEST_F(E1000TransmitTest, AnIpChecksumIsMadeHere) {
  Bytes data = tcp4(100);
  store_be(std::span(data).subspan(kEthernet + 2, 2), uint16_t{152});
  fill(data);
  put_context(
      {.ip_start = 14, .ip_offset = 24, .ip_end = 33, .lower = TransmitDescriptor::kExtended});
  driver_.put(Driver::data(kData, data.size(), kEnd, kIp));
  send();
  EXPECT_EQ(sent().header.flags, 0);
  EXPECT_EQ(sum(part(sent().frame, kEthernet, kIpv4)), 0xffff);
  EXPECT_EQ(part(sent().frame, 34, data.size() - 34), part(data, 34, data.size() - 34));
  EXPECT_EQ(memory_.read<uint16_t>({kData + 24}).value(), 0) << "the guest's own is as it was";
}

TEST_F(E1000TransmitTest, AChecksumThatEndsEarlierIsMadeHere) {
  Bytes data = frame(101);
  store_be(std::span(data).subspan(50, 2), uint16_t{0});
  fill(data);
  put_context(
      {.tcp_start = 34, .tcp_offset = 50, .tcp_end = 90, .lower = TransmitDescriptor::kExtended});
  driver_.put(Driver::data(kData, data.size(), kEnd, kTcpUdp));
  send();
  EXPECT_EQ(sent().header.flags, 0);
  EXPECT_EQ(sum(part(sent().frame, 34, 57)), 0xffff) << "up to and with byte 90";
  // The checksum field lies before the data that it covers.
  put_context({.tcp_start = 34, .tcp_offset = 20, .lower = TransmitDescriptor::kExtended});
  driver_.put(Driver::data(kData, data.size(), kEnd, kTcpUdp));
  send();
  EXPECT_EQ(sent(1).header.flags, 0);
  EXPECT_EQ(word_at(sent(1).frame, 20), static_cast<uint16_t>(~sum(part(data, 34, 67))));
}

TEST_F(E1000TransmitTest, AChecksumBehindTheFrameIsNone) {
  const Bytes data = frame(60);
  fill(data);
  for (const uint8_t start : std::to_array<uint8_t>({60, 200})) {
    put_context({.ip_start = start,
                 .ip_offset = 20,
                 .ip_end = 0,
                 .tcp_start = start,
                 .tcp_offset = 20,
                 .lower = TransmitDescriptor::kExtended});
    driver_.put(Driver::data(kData, data.size(), kEnd, kIp | kTcpUdp));
  }
  put_context({.ip_start = 14,
               .ip_offset = 59,
               .ip_end = 33,
               .tcp_start = 34,
               .tcp_offset = 59,
               .lower = TransmitDescriptor::kExtended});
  driver_.put(Driver::data(kData, data.size(), kEnd, kIp | kTcpUdp));
  send();
  ASSERT_THAT(network_.sent, SizeIs(3));
  for (const fakes::Packet& packet : network_.sent) {
    EXPECT_EQ(packet.frame, data);
    EXPECT_EQ(packet.header.flags, 0);
  }
}

// --- segmentation ---

TEST_F(E1000TransmitTest, AskForTcpSegmentsOverIpv4WithTheHeadersOfTheWhole) {
  constexpr size_t kPayload = 20000;
  constexpr size_t kHeaders = kEthernet + kIpv4 + kTcp;
  const Bytes data = tcp4(kPayload);
  send_segmented(segmentation(true, 1448), data);
  ASSERT_THAT(network_.sent, SizeIs(1));
  const PacketHeader& header = sent().header;
  EXPECT_EQ(header.flags, PacketHeader::kNeedsChecksum);
  EXPECT_EQ(header.segmentation, PacketHeader::kTcp4);
  EXPECT_EQ(header.segment_bytes, 1448);
  EXPECT_EQ(header.header_bytes, kHeaders);
  EXPECT_EQ(header.checksum_start, kEthernet + kIpv4);
  EXPECT_EQ(header.checksum_offset, 16);
  const Bytes& whole = sent().frame;
  ASSERT_EQ(whole.size(), data.size());
  EXPECT_EQ(word_at(whole, kEthernet + 2), kIpv4 + kTcp + kPayload) << "total length";
  EXPECT_EQ(sum(part(whole, kEthernet, kIpv4)), 0xffff) << "the IP header's checksum";
  EXPECT_EQ(word_at(whole, kEthernet + 4), 0x1234) << "the identification is the driver's";
  const Bytes addresses = part(whole, kEthernet + 12, 8);
  EXPECT_EQ(word_at(whole, kEthernet + kIpv4 + 16), sum(addresses, 6 + kTcp + kPayload))
      << "the pseudo header's sum, with the length";
  EXPECT_EQ(part(whole, kHeaders, kPayload), part(data, kHeaders, kPayload));
  EXPECT_EQ(part(whole, kEthernet + kIpv4, 16), part(data, kEthernet + kIpv4, 16));
  EXPECT_EQ(driver_.get(kTsctc), 1u);
}

TEST_F(E1000TransmitTest, AskForTcpSegmentsOverIpv6WithTheHeadersOfTheWhole) {
  constexpr size_t kPayload = 30000;
  constexpr size_t kHeaders = kEthernet + kIpv6 + kTcp;
  const Bytes data = tcp6(kPayload);
  send_segmented(segmentation(false, 1428), data);
  ASSERT_THAT(network_.sent, SizeIs(1));
  const PacketHeader& header = sent().header;
  EXPECT_EQ(header.flags, PacketHeader::kNeedsChecksum);
  EXPECT_EQ(header.segmentation, PacketHeader::kTcp6);
  EXPECT_EQ(header.segment_bytes, 1428);
  EXPECT_EQ(header.header_bytes, kHeaders);
  EXPECT_EQ(header.checksum_start, kEthernet + kIpv6);
  EXPECT_EQ(header.checksum_offset, 16);
  const Bytes& whole = sent().frame;
  EXPECT_EQ(word_at(whole, kEthernet + 4), kTcp + kPayload) << "payload length";
  const Bytes addresses = part(whole, kEthernet + 8, 32);
  EXPECT_EQ(word_at(whole, kEthernet + kIpv6 + 16), sum(addresses, 6 + kTcp + kPayload));
  EXPECT_EQ(part(whole, kHeaders, kPayload), part(data, kHeaders, kPayload));
}

TEST_F(E1000TransmitTest, OneSegmentIsAPacketLikeAnyOther) {
  send_segmented(segmentation(true, 1448), tcp4(1448));
  EXPECT_EQ(sent().header.segmentation, PacketHeader::kNone);
  EXPECT_EQ(sent().header.segment_bytes, 0);
  EXPECT_EQ(sent().header.flags, PacketHeader::kNeedsChecksum);
  EXPECT_EQ(driver_.get(kGptc), 1u);
}

TEST_F(E1000TransmitTest, CountsSegmentsAsTheFramesThatTheyBecome) {
  send_segmented(segmentation(true, 1000), tcp4(2500));
  EXPECT_EQ(driver_.get(kGptc), 3u);
  EXPECT_EQ(driver_.get(kGotcl), 2500u + 3 * (66 + 4));
  EXPECT_EQ(driver_.get(kPtc64 + 20), 2u) << "two of 1070 bytes";
  EXPECT_EQ(driver_.get(kPtc64 + 16), 1u) << "and one of 570";
}

// The network may have to make each segment, so segments count.
TEST_F(E1000TransmitTest, ATurnIsAsLongAsTheFramesThatPacketsBecome) {
  constexpr size_t kPackets = 10;
  const auto most_in_a_turn = [&](uint16_t segment_bytes) {
    const Bytes data = tcp4(1500);
    fill(data);
    put_context(segmentation(true, segment_bytes));
    for (size_t i = 0; i < kPackets; ++i)
      driver_.put(Driver::data(kData, data.size(), kSegment | kEnd, kIp | kTcpUdp));
    network_.sent.clear();
    // This task runs once between two turns.
    size_t sent = 0;
    size_t most = 0;
    int looks = 0;
    std::function<void()> look = [&] {
      most = std::max(most, network_.sent.size() - sent);
      sent = network_.sent.size();
      if (sent < kPackets && ++looks < 100) loop_->post(look);
    };
    loop_->post(look);
    send();
    EXPECT_THAT(network_.sent, SizeIs(kPackets));
    return most;
  };
  EXPECT_EQ(most_in_a_turn(1448), kPackets);
  EXPECT_EQ(most_in_a_turn(1), 4u) << "one in each round";
}

TEST_F(E1000TransmitTest, TheTwoContextsAreApart) {
  fill(tcp4(5000));
  put_context(segmentation(true, 1448));
  put_context({.tcp_start = 34, .tcp_offset = 40, .lower = TransmitDescriptor::kExtended});
  driver_.put(Driver::data(kData, 5066, kEnd | kSegment, kIp | kTcpUdp));
  driver_.put(Driver::data(kData, 100, kEnd, kTcpUdp));
  send();
  ASSERT_THAT(network_.sent, SizeIs(2));
  EXPECT_EQ(sent(0).header.segmentation, PacketHeader::kTcp4);
  EXPECT_EQ(sent(0).header.checksum_offset, 16);
  EXPECT_EQ(sent(1).header.segmentation, PacketHeader::kNone);
  EXPECT_EQ(sent(1).header.checksum_offset, 6);
}

TEST_F(E1000TransmitTest, SendsTheLargestPacketThatIpAllows) {
  constexpr size_t kPayload = 65535 - kIpv4 - kTcp;
  send_segmented(segmentation(true, 1448), tcp4(kPayload));
  ASSERT_THAT(network_.sent, SizeIs(1));
  EXPECT_EQ(word_at(sent().frame, kEthernet + 2), 65535);
  send_segmented(segmentation(true, 1448), tcp4(kPayload + 1));
  EXPECT_THAT(network_.sent, SizeIs(1)) << "it has no length any more";
  EXPECT_EQ(driver_.get(kTsctfc), 1u);
}

// --- VLANs ---

TEST_F(E1000TransmitTest, InsertsAVlanTag) {
  driver_.set(kCtrl, kVlanMode);
  const Bytes data = frame(100);
  fill(data);
  auto descriptor = Driver::legacy(kData, 100, kEnd | kVlan);
  descriptor.special = 0x6123;
  driver_.put(descriptor);
  send();
  ASSERT_THAT(sent().frame, SizeIs(104));
  EXPECT_EQ(part(sent().frame, 0, 12), part(data, 0, 12));
  EXPECT_EQ(word_at(sent().frame, 12), 0x8100);
  EXPECT_EQ(word_at(sent().frame, 14), 0x6123);
  EXPECT_EQ(part(sent().frame, 16, 88), part(data, 12, 88));
  driver_.set(kCtrl, 0);
  driver_.put(descriptor);
  send();
  EXPECT_EQ(sent(1).frame, data) << "not without CTRL.VME";
}

TEST_F(E1000TransmitTest, AVlanTagMovesTheChecksum) {
  driver_.set(kCtrl, kVlanMode);
  fill(tcp4(5000));
  put_context(segmentation(true, 1448));
  auto descriptor = Driver::data(kData, 5066, kEnd | kSegment | kVlan, kIp | kTcpUdp);
  descriptor.special = 7;
  driver_.put(descriptor);
  send();
  EXPECT_THAT(sent().frame, SizeIs(5070));
  EXPECT_EQ(word_at(sent().frame, 14), 7);
  EXPECT_EQ(sent().header.checksum_start, 38);
  EXPECT_EQ(sent().header.checksum_offset, 16);
  EXPECT_EQ(sent().header.header_bytes, 70);
  EXPECT_EQ(word_at(sent().frame, 18 + 2), 5052) << "IP does not know of the tag";
}

// 3.3.7.1: the tag is in the first descriptor of a packet to segment, and in the last of
// any other packet.
TEST_F(E1000TransmitTest, TakesTheTagFromTheDescriptorThatTheManualSays) {
  driver_.set(kCtrl, kVlanMode);
  fill(frame(100));
  auto tagged = Driver::data(kData, 50, kVlan, 0);
  tagged.special = 1;
  driver_.put(tagged);
  driver_.put(Driver::data(kData + 50, 50, kEnd, 0));
  send();
  EXPECT_THAT(sent(0).frame, SizeIs(100));
  fill(tcp4(5000));
  put_context(segmentation(true, 1448));
  tagged = Driver::data(kData, 66, kVlan | kSegment, kIp | kTcpUdp);
  tagged.special = 2;
  driver_.put(tagged);
  driver_.put(Driver::data(kData + 66, 5000, kEnd | kSegment, 0));
  send();
  EXPECT_EQ(word_at(sent(1).frame, 14), 2);
}

TEST_F(E1000TransmitTest, TagsTheShortestFrame) {
  driver_.set(kCtrl, kVlanMode);
  const Bytes data = frame(14);
  fill(data);
  auto descriptor = Driver::legacy(kData, 14, kEnd | kVlan);
  descriptor.special = 0x123;
  driver_.put(descriptor);
  send();
  ASSERT_THAT(sent().frame, SizeIs(18));
  EXPECT_EQ(part(sent().frame, 0, 12), part(data, 0, 12));
  EXPECT_EQ(word_at(sent().frame, 14), 0x123);
  EXPECT_EQ(part(sent().frame, 16, 2), part(data, 12, 2));
}

// A packet of a VLAN must not be sent without its tag.
TEST_F(E1000TransmitTest, APacketThatATagMakesTooLargeIsDropped) {
  driver_.set(kCtrl, kVlanMode);
  for (const size_t bytes : {net::kMaxFrameBytes - 4, net::kMaxFrameBytes - 3}) {
    auto descriptor = Driver::data(kData, bytes, kEnd | kVlan, 0);
    driver_.put(descriptor);
    send();
    ASSERT_THAT(network_.sent, SizeIs(1)) << bytes;
  }
  EXPECT_THAT(sent().frame, SizeIs(net::kMaxFrameBytes));
}

}  // namespace
}  // namespace wick::devices
