// Tests IDE commands and resets while the host reads, writes or flushes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "tests/devices/ide/fixture.h"

namespace wick::devices {
namespace {

using testing::Each;

TEST_F(IdeTest, IsBusyWhileTheHostReads) {
  set_delay(MemoryBackend::Delay::kHeld);
  host().command(kReadSectors, 1, 1);  // returns while the request is in flight
  ASSERT_TRUE(await_held());
  EXPECT_EQ(host().status(), kBusy);
  EXPECT_EQ(line_->edges(), 0);
  // While BSY is set, the registers cannot be written.
  for (uint64_t port = kErrorOrFeatures; port <= kStatusOrCommand; ++port) host().set(port, 0xff);
  EXPECT_EQ(host().data(), 0xffffu);
  host().set_data(0);
  release();
  ASSERT_TRUE(await_interrupt());
  EXPECT_EQ(host().status(), kWantsData);
  EXPECT_EQ(host().get(kLbaLow), 1);
  EXPECT_TRUE(same(host().read_data(512), on_disk(1, 512)));
}

TEST_F(IdeTest, IsBusyUntilAFlushIsDone) {
  set_delay(MemoryBackend::Delay::kHeld);
  host().command(kFlushCacheExt);
  ASSERT_TRUE(await_held());
  EXPECT_TRUE(host().busy());
  release();
  ASSERT_TRUE(await_interrupt());
  EXPECT_EQ(host().status(), kGood);
}

// A reset returns at once; the drive stays busy until the operation has ended.
TEST_F(IdeTest, AResetInFlightIsOverWhenTheHostIsDone) {
  set_delay(MemoryBackend::Delay::kHeld);
  set_table({{kArea, 512, IdeHost::kLast}});
  host().start(IdeHost::kToMemory);
  host().command(kReadDma, 1, 1);
  ASSERT_TRUE(await_held());
  host().control(kSoftwareReset);
  EXPECT_EQ(host().status(), kBusy);
  host().control(0);
  EXPECT_EQ(host().status(), kBusy);
  host().command(kIdentifyDevice);
  EXPECT_EQ(host().status(), kBusy);
  release();
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_EQ(host().status(), kGood);
  EXPECT_EQ(host().error(), kDiagnosticPassed);
  EXPECT_EQ(host().get(kSectorCount), 1);
  EXPECT_EQ(line_->edges(), 0);
  EXPECT_THAT(ram(kArea, 512), Each(std::byte{0})) << "what was read before reached no RAM";
  set_delay(MemoryBackend::Delay::kNone);
  EXPECT_EQ(host().finish(kVerify), kGood);
}

TEST_F(IdeTest, StaysBusyAsLongAsTheResetIsHeld) {
  set_delay(MemoryBackend::Delay::kHeld);
  host().command(kReadSectors);
  ASSERT_TRUE(await_held());
  host().control(kSoftwareReset);
  release();
  on_loop([] {});
  EXPECT_EQ(host().status(), kBusy);
  host().command(kDiagnostic);
  host().command(kDeviceReset);
  EXPECT_EQ(host().status(), kBusy);
  host().control(0);
  EXPECT_EQ(host().status(), kGood);
}

TEST_F(IdeTest, ResetsInEveryStateLeadBackToTheSignature) {
  set_table({{kArea, 512, IdeHost::kLast}});
  for (const auto& kinds : {std::optional<Kind>(), std::optional(Kind::kCdrom)}) {
    plug(Kind::kDisk, kinds);
    for (int opcode = 0; opcode < 256; ++opcode) {
      const auto command = static_cast<uint8_t>(opcode);
      host().command(command, 0, 1, kinds ? uint8_t{0xf0} : IdeHost::kLba);
      host().control(kSoftwareReset);
      host().control(0);
      ASSERT_TRUE(host().wait_until_ready()) << opcode;
      ASSERT_EQ(host().status(), kGood) << opcode;
      ASSERT_EQ(host().get(kSectorCount), 1) << opcode;
      ASSERT_FALSE(line_->level()) << opcode;
    }
  }
}

TEST_F(IdeTest, CanBeTakenAwayInFlight) {
  set_delay(MemoryBackend::Delay::kHeld);
  host().command(kReadSectors);
  ASSERT_TRUE(await_held());
  std::thread remover([&] { channel_.reset(); });
  release();
  remover.join();
  // The interrupt came before the channel was destroyed, or it never comes.
  const int edges = line_->edges();
  EXPECT_LE(edges, 1);
  loop().call([] {});
  EXPECT_EQ(line_->edges(), edges);
}

TEST_F(IdeTest, DiagnosesBothDrivesAndInterruptsOnce) {
  plug(Kind::kDisk, Kind::kCdrom);
  host().select(IdeHost::kSecond);
  host().command(kDiagnostic);
  EXPECT_EQ(line_->edges(), 1);
  EXPECT_EQ(host().get(kDevice) & IdeHost::kSecond, 0);
  EXPECT_EQ(host().status(), kGood);
  EXPECT_EQ(host().error(), kDiagnosticPassed);
  host().select(IdeHost::kSecond);
  EXPECT_EQ(host().byte_count(), 0xeb14);
  EXPECT_EQ(host().error(), kDiagnosticPassed);
}

}  // namespace
}  // namespace wick::devices
