// Tests that a broken or hostile driver cannot make the 82540EM crash, loop without end
// or access anything outside guest memory, and that the card works after a reset.
#include <random>

#include "tests/devices/e1000/fixture.h"

namespace wick::devices {
namespace {

using namespace e1000;
using fakes::kWidths;
using fakes::read_register;
using fakes::write_register;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint32_t kEnd = TransmitDescriptor::kEndOfPacket;
constexpr uint32_t kReport = TransmitDescriptor::kReportStatus;
constexpr uint32_t kSegment = TransmitDescriptor::kSegment;
constexpr uint8_t kAllOptions = 3;

class E1000HostileTest : public E1000Test {
 protected:
  static constexpr uint64_t kData = Driver::kTransmitData;

  // Resets the card and expects it to send and receive.
  void expect_that_it_works() {
    driver_.set(kCtrl, kReset);
    settle();
    while (network_.waiting() > 0) {
      driver_.start_receiver(kUnicastPromiscuous | kMulticastPromiscuous | kLongPackets);
      driver_.set(kRdt, Driver::kDescriptors - 1);
      settle();
      driver_.set(kCtrl, kReset);
    }
    network_.sent.clear();
    driver_ = Driver(*card_, memory_);
    driver_.start_transmitter();
    driver_.start_receiver(kStripCrc);
    driver_.set(kRdt, Driver::kDescriptors - 1);
    driver_.set(kIms, kTxdw | kRxt0);
    fill(frame(300));
    driver_.put(Driver::legacy(kData, 300, kEnd | kReport));
    driver_.send();
    arrive(frame(200));
    settle();
    ASSERT_THAT(network_.sent, SizeIs(1));
    EXPECT_EQ(network_.sent[0].frame, frame(300));
    EXPECT_EQ(network_.sent[0].header.flags, 0);
    EXPECT_EQ(driver_.received_bytes(0), frame(200));
    EXPECT_TRUE(line_.level());
    (void)driver_.get(kIcr);
    EXPECT_FALSE(line_.level());
  }
  void send_segmented(const ContextDescriptor& context, size_t size_bytes) {
    driver_.put(context);
    driver_.put(Driver::data(kData, size_bytes, kEnd | kReport | kSegment, kAllOptions));
    driver_.send();
    settle();
  }
};

// --- rings ---

TEST_F(E1000HostileTest, HeadsAndTailsOutsideTheRingAreNotFollowed) {
  for (const auto& [head, tail] : {std::pair(16, 3), std::pair(3, 16), std::pair(0, 0xffff),
                                   std::pair(0xffff, 0), std::pair(0xffff, 0xfffe)}) {
    driver_.start_transmitter();
    driver_.start_receiver(kUnicastPromiscuous);
    driver_.set(kTdh, static_cast<uint32_t>(head));
    driver_.set(kTdt, static_cast<uint32_t>(tail));
    driver_.set(kRdh, static_cast<uint32_t>(head));
    driver_.set(kRdt, static_cast<uint32_t>(tail));
    arrive(frame(100));
    settle();
    EXPECT_EQ(driver_.get(kTdh), static_cast<uint32_t>(head));
    EXPECT_EQ(driver_.get(kRdh), static_cast<uint32_t>(head));
    EXPECT_THAT(network_.sent, IsEmpty());
  }
  expect_that_it_works();
}

TEST_F(E1000HostileTest, ARingOutsideOfRamIsNone) {
  for (const uint64_t base : {kRamBytes, kRamBytes - 128, uint64_t{0xfffffff0},
                              uint64_t{0xffffffff'fffffff0}, uint64_t{1} << 63}) {
    driver_.start_transmitter();
    driver_.start_receiver(kUnicastPromiscuous);
    driver_.set(kTdbal, static_cast<uint32_t>(base));
    driver_.set(kTdbah, static_cast<uint32_t>(base >> 32));
    driver_.set(kRdbal, static_cast<uint32_t>(base));
    driver_.set(kRdbah, static_cast<uint32_t>(base >> 32));
    driver_.set(kTdt, 1);
    driver_.set(kRdt, 1);
    arrive(frame(100));
    settle();
    EXPECT_EQ(driver_.get(kTdh), 0u);
    EXPECT_EQ(driver_.get(kRdh), 0u);
  }
  expect_that_it_works();
}

TEST_F(E1000HostileTest, ARingOfNoLengthIsNone) {
  driver_.start_transmitter(0, 0);
  driver_.start_receiver(kUnicastPromiscuous, 0);
  arrive(frame(100));
  for (const uint32_t tail : {0, 1, 0xffff}) {
    driver_.set(kTdt, tail);
    driver_.set(kRdt, tail);
    settle();
  }
  EXPECT_EQ(driver_.get(kTdh), 0u);
  expect_that_it_works();
}

TEST_F(E1000HostileTest, APacketWithoutAnEndIsNotSent) {
  driver_.start_transmitter();
  for (uint32_t i = 0; i + 1 < Driver::kDescriptors; ++i)
    driver_.put(Driver::legacy(kData, 1000, kReport));
  driver_.send();
  settle();
  EXPECT_THAT(network_.sent, IsEmpty());
  EXPECT_EQ(driver_.get(kTdh), 0u) << "it may still come";
  expect_that_it_works();
}

TEST_F(E1000HostileTest, APacketInTooManyPiecesIsDroppedUpToItsEnd) {
  constexpr uint32_t kPieces = 3 * Transmitter::kMaxDescriptors;
  driver_.start_transmitter(0, 4096);
  const auto put = [&](uint32_t index, const TransmitDescriptor& descriptor) {
    memory_.write({Driver::kTransmitRing + 16 * uint64_t{index}}, descriptor).value();
  };
  for (uint32_t i = 0; i < kPieces; ++i)
    put(i, Driver::legacy(0x90000, 1, kReport | (i + 1 == kPieces ? kEnd : 0)));
  fill(frame(100), 0x90000);
  put(kPieces, Driver::legacy(0x90000, 100, kReport | kEnd));
  driver_.set(kTdt, kPieces + 1);
  settle(40);
  EXPECT_EQ(driver_.get(kTdh), kPieces + 1);
  ASSERT_THAT(network_.sent, SizeIs(1));
  EXPECT_EQ(network_.sent[0].frame, frame(100));
  EXPECT_EQ(driver_.transmitted(kPieces - 1).status, 1);
}

TEST_F(E1000HostileTest, BuffersOutsideOfRamAreNotRead) {
  driver_.start_transmitter();
  fill(frame(100));
  for (const uint64_t address : {kRamBytes - 50, kRamBytes, ~uint64_t{0} - 10, uint64_t{1} << 63}) {
    driver_.put(Driver::legacy(kData, 60, 0));
    driver_.put(Driver::legacy(address, 100, kEnd | kReport));
  }
  driver_.send();
  settle();
  EXPECT_THAT(network_.sent, IsEmpty());
  EXPECT_EQ(driver_.get(kTdh), 8u) << "they are done with";
  EXPECT_EQ(driver_.transmitted(7).status, 1);
  expect_that_it_works();
}

TEST_F(E1000HostileTest, BuffersOutsideOfRamAreNotWrittenTo) {
  driver_.start_receiver(kUnicastPromiscuous | kStripCrc);
  for (const uint64_t index : {0, 1, 2}) {
    const uint64_t addresses[] = {kRamBytes - 50, kRamBytes, ~uint64_t{0} - 10};
    const ReceiveDescriptor wild{.address = addresses[index], .written = {}};
    memory_.write({Driver::kReceiveRing + 16 * index}, wild).value();
  }
  driver_.set(kRdt, 8);
  for (int i = 0; i < 4; ++i) arrive(frame(100));
  settle();
  for (const uint32_t index : {0, 1, 2})
    EXPECT_EQ(driver_.received(index).errors, ReceiveDescriptor::kDataError);
  EXPECT_EQ(driver_.received_bytes(3), frame(100));
  EXPECT_EQ(driver_.received(3).errors, 0);
  expect_that_it_works();
}

TEST_F(E1000HostileTest, ARingOfNullDescriptorsTakesNoPacket) {
  driver_.start_receiver(kUnicastPromiscuous);
  for (uint64_t i = 0; i < Driver::kDescriptors; ++i)
    memory_.write({Driver::kReceiveRing + 16 * i}, ReceiveDescriptor()).value();
  driver_.set(kRdt, Driver::kDescriptors - 1);
  for (int i = 0; i < 4; ++i) arrive(frame(100));
  settle();
  EXPECT_EQ(driver_.get(kMpc), 4u);
  expect_that_it_works();
}

// The rings overlap each other, their buffers, and the data to send.
TEST_F(E1000HostileTest, RingsAndBuffersMayLieOverEachOther) {
  driver_.start_transmitter();
  driver_.start_receiver(kUnicastPromiscuous);
  for (uint64_t i = 0; i < Driver::kDescriptors; ++i)
    memory_
        .write({Driver::kTransmitRing + 16 * i},
               Driver::legacy(Driver::kTransmitRing, 256, kEnd | kReport))
        .value();
  driver_.set(kRdbal, Driver::kTransmitRing);
  for (int i = 0; i < 50; ++i) {
    arrive(frame(1000));
    driver_.set(kRdt, (driver_.get(kRdh) + 15) % 16);
    driver_.set(kTdt, (driver_.get(kTdh) + 15) % 16);
    settle(2);
  }
  expect_that_it_works();
}

// --- contexts ---

TEST_F(E1000HostileTest, SegmentsNothingByHeadersThatAreNone) {
  driver_.start_transmitter();
  fill(frame(5000));
  const ContextDescriptor good{.ip_start = 14,
                               .ip_offset = 24,
                               .ip_end = 33,
                               .tcp_start = 34,
                               .tcp_offset = 50,
                               .lower = TransmitDescriptor::kExtended |
                                        ContextDescriptor::kSegment | ContextDescriptor::kTcp |
                                        ContextDescriptor::kIpv4,
                               .header_bytes = 54,
                               .segment_bytes = 1000};
  send_segmented(good, 5000);
  ASSERT_THAT(network_.sent, SizeIs(1));
  const auto refused = [&](auto change, size_t size_bytes = 5000) {
    ContextDescriptor context = good;
    change(context);
    const uint32_t before = driver_.get(kTdh);
    send_segmented(context, size_bytes);
    EXPECT_THAT(network_.sent, SizeIs(1));
    EXPECT_EQ(driver_.get(kTsctfc), 1u);
    EXPECT_EQ(driver_.get(kTdh), (before + 2) % Driver::kDescriptors) << "it is done with";
  };
  refused([](ContextDescriptor& c) { c.segment_bytes = 0; });
  refused([](ContextDescriptor& c) { c.header_bytes = 0; });
  refused([](ContextDescriptor& c) { c.header_bytes = 53; });
  refused([](ContextDescriptor&) {}, 53);
  refused([](ContextDescriptor& c) { c.header_bytes = 255; }, 254);
  refused([](ContextDescriptor& c) { c.ip_start = 13; });
  refused([](ContextDescriptor& c) { c.ip_start = 15; });
  refused([](ContextDescriptor& c) { c.ip_start = 255; });
  refused([](ContextDescriptor& c) { c.ip_offset = 13; });
  refused([](ContextDescriptor& c) { c.ip_offset = 53; });
  refused([](ContextDescriptor& c) { c.tcp_start = 35; });
  refused([](ContextDescriptor& c) { c.tcp_start = 255; });
  refused([](ContextDescriptor& c) { c.tcp_offset = 33; });
  refused([](ContextDescriptor& c) { c.tcp_offset = 53; });
  refused([](ContextDescriptor& c) { c.lower &= ~ContextDescriptor::kTcp; });
  refused([](ContextDescriptor& c) { c.lower &= ~ContextDescriptor::kIpv4; });
  expect_that_it_works();
}

TEST_F(E1000HostileTest, SegmentsWithoutAContextAreNone) {
  driver_.start_transmitter();
  fill(frame(5000));
  driver_.put(Driver::data(kData, 5000, kEnd | kReport | kSegment, kAllOptions));
  driver_.send();
  settle();
  EXPECT_THAT(network_.sent, IsEmpty());
  EXPECT_EQ(driver_.get(kTdh), 1u);
  expect_that_it_works();
}

TEST_F(E1000HostileTest, PacketsOfAnyLengthAreSentOrDropped) {
  driver_.start_transmitter();
  size_t sent = 0;
  for (const size_t size_bytes : {0ul, 1ul, 13ul, 14ul, 15ul, 65553ul, 65554ul, 0xffffful}) {
    driver_.put(Driver::data(0, size_bytes, kEnd | kReport, 0));
    driver_.send();
    settle();
    if (size_bytes >= 14 && size_bytes <= net::kMaxFrameBytes) ++sent;
    EXPECT_THAT(network_.sent, SizeIs(sent)) << size_bytes;
  }
  for (int i = 0; i < 3; ++i) driver_.put(Driver::data(0, 0xfffff, 0, 0));
  driver_.put(Driver::data(0, 100, kEnd | kReport, 0));
  driver_.send();
  settle();
  EXPECT_THAT(network_.sent, SizeIs(sent));
  expect_that_it_works();
}

// --- registers ---

TEST_F(E1000HostileTest, SurvivesAllOnesEverywhere) {
  for (uint32_t offset = 0; offset < E1000::kMemoryBytes; offset += 4) {
    driver_.set(offset, 0xffffffff);
    if (offset % 0x100 == 0) settle(1);
  }
  arrive(frame(100));
  settle();
  expect_that_it_works();
}

TEST_F(E1000HostileTest, SurvivesEveryWidthAtEveryOffset) {
  for (BusDevice* bar : {&card_->memory_bar(), &card_->io_bar()})
    for (uint64_t offset = 0; offset < (bar == &card_->io_bar() ? 64u : 0x6010u); ++offset)
      for (const size_t width : kWidths) {
        (void)read_register(*bar, offset, width);
        write_register(*bar, offset, 0xa5a5a5a5'5a5a5a5a >> (offset % 64), width);
      }
  settle();
  expect_that_it_works();
}

TEST_F(E1000HostileTest, SurvivesAnythingAnywhere) {
  std::minstd_rand random(7);
  const auto ram = memory_.slice({0}, kRamBytes).value();
  for (std::byte& each : ram) each = static_cast<std::byte>(random());
  constexpr auto kOffsets = std::to_array<uint32_t>(
      {kCtrl, kRctl, kTctl, kRdbal, kRdlen, kRdh, kRdt, kTdbal, kTdlen, kTdh, kTdt, kIms, kItr});
  for (int i = 0; i < 20000; ++i) {
    const bool known = random() % 4 != 0;
    const uint32_t offset = known ? kOffsets[random() % kOffsets.size()]
                                  : static_cast<uint32_t>(random() % E1000::kMemoryBytes) & ~3u;
    auto value = static_cast<uint32_t>(random());
    if (random() % 2 == 0) value &= 0xff;
    if (offset == kCtrl && random() % 8 != 0) value &= ~kReset;
    if (offset == kRctl || offset == kTctl) value |= 2;
    driver_.set(offset, value);
    if (offset == kRdbal) driver_.set(kRdbah, 0);
    if (offset == kTdbal) driver_.set(kTdbah, 0);
    if (network_.waiting() < 8) arrive(frame(60 + random() % 2000));
    if (i % 4 == 0) settle(1);
    network_.sent.clear();
  }
  expect_that_it_works();
}

}  // namespace
}  // namespace wick::devices
