// Tests a CD-ROM drive on an IDE channel.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/devices/ide/fixture.h"

namespace wick::devices {
namespace {

class IdeCdromTest : public IdeTest {
 protected:
  IdeCdromTest() {
    plug(Kind::kCdrom);
    host().packet(kTestUnitReady, 0);  // clears the unit attention
    (void)host().status();
  }
  static constexpr std::array<uint8_t, 1> kTestUnitReady = {0x00};
  static constexpr std::array<uint8_t, 9> kRead3From5 = {0x28, 0, 0, 0, 0, 5, 0, 0, 3};
};

TEST_F(IdeCdromTest, IdentifiesItselfAsAPacketDevice) {
  host().command(kIdentifyDevice);
  EXPECT_EQ(host().status() & kError, kError);
  EXPECT_EQ(host().byte_count(), 0xeb14) << "the signature says why";
  host().command(kIdentifyPacketDevice);
  EXPECT_EQ(host().status(), kWantsData);
  EXPECT_EQ(host().data(), 0x85c0u);
}

TEST_F(IdeCdromTest, ReadsByPio) {
  const int edges = line_->edges();
  host().packet(kRead3From5, 4096);
  const auto data = on_disk(5 * 4, 3 * 2048);
  EXPECT_EQ(line_->edges(), edges + 1);
  EXPECT_EQ(host().status(), kWantsData);
  EXPECT_EQ(host().get(kSectorCount), kReasonToHost);
  EXPECT_EQ(host().byte_count(), 4096) << "no more than was allowed";
  EXPECT_TRUE(same(host().read_data(4096), std::span(data).first(4096)));
  EXPECT_EQ(host().status(), kWantsData);
  EXPECT_EQ(host().byte_count(), 2048);
  EXPECT_TRUE(same(host().read_data(2048), std::span(data).subspan(4096)));
  EXPECT_EQ(line_->edges(), edges + 3) << "also at the end";
  EXPECT_EQ(host().status(), kGood);
  EXPECT_EQ(host().get(kSectorCount), kReasonCommand | kReasonToHost);
}

TEST_F(IdeCdromTest, ReadsByDma) {
  set_table({{kArea, 3 * 2048, IdeHost::kLast}});
  host().start(IdeHost::kToMemory);
  host().packet(kRead3From5, 0, true);
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_EQ(host().status(), kGood);
  EXPECT_TRUE(same(ram(kArea, 3 * 2048), on_disk(5 * 4, 3 * 2048)));
}

TEST_F(IdeCdromTest, AsksForItsPacketFirst) {
  const int edges = line_->edges();
  host().command(kPacket);
  EXPECT_EQ(host().alternate_status(), kWantsData);
  EXPECT_EQ(host().get(kSectorCount), kReasonCommand);
  EXPECT_EQ(line_->edges(), edges) << "without an interrupt";
}

TEST_F(IdeCdromTest, ByteCountLimitsOfAllKindsEnd) {
  const auto data = on_disk(5 * 4, 3 * 2048);
  for (const auto limit : std::to_array<uint16_t>({1, 2, 3, 2047, 4095, 0xfffe, 0xffff})) {
    host().packet(kRead3From5, limit);
    std::vector<std::byte> got;
    while ((host().alternate_status() & kDataRequest) != 0) {
      const uint16_t count = host().byte_count();
      ASSERT_GT(count, 0);
      ASSERT_LE(count, std::max<uint16_t>(limit, 2));
      const auto part = host().read_data(count);
      got.insert(got.end(), part.begin(), part.end());
    }
    EXPECT_TRUE(same(got, data)) << limit;
    EXPECT_EQ(host().status(), kGood);
  }
  host().packet(kRead3From5, 0);
  EXPECT_EQ(host().status() & kError, kError) << "no room for any data";
  EXPECT_EQ(host().error(), kAborted);
}

TEST_F(IdeCdromTest, SaysByItsSenseWhyACommandFailed) {
  const std::array<uint8_t, 9> outside = {0x28, 0, 0x7f, 0, 0, 0, 0, 0, 1};
  host().packet(outside, 2048);
  EXPECT_EQ(host().status() & kError, kError);
  EXPECT_EQ(host().error() >> 4, 5) << "illegal request";
  const std::array<uint8_t, 5> request_sense = {0x03, 0, 0, 0, 18};
  host().packet(request_sense, 18);
  const auto sense = host().read_data(18);
  EXPECT_EQ(sense[2], std::byte{5});
  EXPECT_EQ(sense[12], std::byte{0x21});
  fail_next();
  host().packet(kRead3From5, 2048);
  EXPECT_EQ(host().error() >> 4, 3) << "medium error";
}

TEST_F(IdeCdromTest, ADeviceResetEndsWhatItDoes) {
  set_delay(MemoryBackend::Delay::kHeld);
  host().set(kLbaHigh, 8);
  host().command(kPacket);
  std::array<std::byte, 12> packet{};
  std::ranges::copy(std::as_bytes(std::span(kRead3From5)), packet.begin());
  host().write_data(packet);
  ASSERT_TRUE(await_held());
  host().command(kDeviceReset);
  EXPECT_TRUE(host().busy());
  release();
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_EQ(host().byte_count(), 0xeb14);
  plug(Kind::kDisk);
  host().command(kDeviceReset);
  EXPECT_EQ(host().error(), kAborted) << "no command of a disk";
}

TEST_F(IdeCdromTest, HasNoCommandsOfADisk) {
  for (const uint8_t command : {kReadSectors, kWriteSectors, kReadDma, kFlushCache, kSetMultiple}) {
    host().command(command, 0, 1);
    EXPECT_EQ(host().status() & kError, kError) << int{command};
    EXPECT_EQ(host().error(), kAborted);
  }
  EXPECT_EQ(disk().calls().writes, 0);
}

// --- the host's hand ---

// A read of 160 KiB needs two operations of the back end.
constexpr std::array<uint8_t, 9> kRead80 = {0x28, 0, 0, 0, 0, 0, 0, 0, 80};

TEST_F(IdeCdromTest, ATransferEndsWithAnErrorWhenTheDiscIsTakenOut) {
  set_delay(MemoryBackend::Delay::kHeld);
  host().set(kLbaMid, 0xfe);  // the byte count limit
  host().set(kLbaHigh, 0xff);
  host().command(kPacket);
  for (size_t i = 0; i < atapi::kPacketBytes; i += 2)
    host().set_data(i + 1 < kRead80.size() ? kRead80[i] | kRead80[i + 1] << 8 : 80);
  ASSERT_TRUE(await_held());
  EXPECT_TRUE(channel_->open_tray(0, false));
  channel_->insert_disc(0, 100 * 2048);
  release();
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_EQ(host().status(), kFailed) << "the data is not of this disc";
  EXPECT_EQ(host().get(kErrorOrFeatures) >> 4, 2) << "not ready";
  set_delay(MemoryBackend::Delay::kNone);
  host().packet(kTestUnitReady, 0);
  EXPECT_EQ(host().get(kErrorOrFeatures) >> 4, 6) << "unit attention";
  host().packet(kTestUnitReady, 0);
  EXPECT_EQ(host().status(), kGood);
}

TEST_F(IdeCdromTest, DataThatTheDriveHasIsStillRead) {
  host().packet(kRead80, 0x8000);
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_TRUE(channel_->open_tray(0, false));
  const auto data = on_disk(0, IdeDrive::kBufferBytes);
  for (size_t at = 0; at < data.size(); at += 0x8000) {
    ASSERT_EQ(host().status(), kWantsData);
    EXPECT_TRUE(same(host().read_data(0x8000), std::span(data).subspan(at, 0x8000)));
  }
  EXPECT_EQ(host().status(), kFailed) << "the rest is gone";
}

TEST_F(IdeCdromTest, TheTraysMovesByTheGuestAreTold) {
  std::vector<bool> moves;
  drives_[0]->on_tray_moved([&](bool open) { moves.push_back(open); });
  constexpr std::array<uint8_t, 5> kOpen = {0x1b, 0, 0, 0, 2};
  constexpr std::array<uint8_t, 5> kClose = {0x1b, 0, 0, 0, 3};
  host().packet(kOpen, 0);
  host().packet(kOpen, 0);
  host().packet(kClose, 0);
  EXPECT_EQ(moves, (std::vector{true, false}));
  EXPECT_TRUE(channel_->open_tray(0, false));
  EXPECT_EQ(moves.size(), 2u) << "the host knows its own";
}

}  // namespace
}  // namespace wick::devices
