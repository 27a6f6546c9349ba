// Tests an IDE channel with disks: detection, PIO and interrupts.
#include "devices/ide/ide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/devices/ide/fixture.h"

namespace wick::devices {
namespace {

using testing::Each;

// --- detection ---

TEST_F(IdeTest, ADriveShowsItsSignatureWhenItIsSwitchedOn) {
  EXPECT_EQ(host().status(), kGood);
  EXPECT_EQ(host().error(), kDiagnosticPassed);
  EXPECT_EQ(host().get(kSectorCount), 1);
  EXPECT_EQ(host().get(kLbaLow), 1);
  EXPECT_EQ(host().byte_count(), 0);
  plug(Kind::kCdrom);
  EXPECT_EQ(host().status(), 0) << "not ready before its first command";
  EXPECT_EQ(host().byte_count(), 0xeb14);
  EXPECT_EQ(line_->edges(), 0);
}

TEST_F(IdeTest, IdentifiesItself) {
  host().command(kIdentifyDevice);
  EXPECT_EQ(line_->edges(), 1);
  EXPECT_EQ(host().status(), kWantsData);
  const auto bytes = host().read_data(512);
  EXPECT_EQ(host().status(), kGood);
  const auto word = [&](size_t i) { return load_le<uint16_t>(std::span(bytes).subspan(2 * i)); };
  EXPECT_EQ(word(60) | word(61) << 16, static_cast<int>(kSectors));
  EXPECT_EQ(word(100) | word(101) << 16, static_cast<int>(kSectors));
  EXPECT_EQ(word(83) & 0xc000, 0x4000) << "the words with features are valid";
  EXPECT_NE(word(83) & 1 << 10, 0) << "48-bit addresses";
  EXPECT_EQ(word(1) * word(3) * word(6), static_cast<int>(kSectors / 1008 * 1008));
  std::string serial;
  for (size_t i = 10; i < 20; ++i)
    serial += {static_cast<char>(word(i) >> 8), static_cast<char>(word(i))};
  EXPECT_EQ(serial, "serial-0001         ");
  uint8_t sum = 0;
  for (const std::byte byte : bytes) sum = static_cast<uint8_t>(sum + std::to_integer<int>(byte));
  EXPECT_EQ(sum, 0) << "the checksum";
}

TEST_F(IdeTest, RemembersItsModesInItsIdentity) {
  const auto word = [&](size_t index) {
    host().command(kIdentifyDevice);
    const auto bytes = host().read_data(512);
    return load_le<uint16_t>(std::span(bytes).subspan(2 * index));
  };
  const auto set_mode = [&](uint8_t mode) {
    host().set(kErrorOrFeatures, kSetTransferMode);
    return host().finish(kSetFeatures, 0, mode);
  };
  EXPECT_EQ(word(88), 0x0007);
  EXPECT_EQ(set_mode(0x42), kGood);
  EXPECT_EQ(word(88), 0x0407);
  EXPECT_EQ(set_mode(0x21), kGood);
  EXPECT_EQ(word(88), 0x0007);
  EXPECT_EQ(word(63), 0x0207);
  EXPECT_EQ(set_mode(0x45), kFailed) << "no Ultra DMA 5";
  EXPECT_EQ(host().error(), kAborted);
  EXPECT_EQ(word(63), 0x0207);
  EXPECT_EQ(host().finish(kSetMultiple, 0, 8), kGood);
  EXPECT_EQ(word(59), 0x0108);
}

TEST_F(IdeTest, DriveOneIsNotThere) {
  host().select(IdeHost::kSecond);
  EXPECT_EQ(host().status(), 0);
  EXPECT_EQ(host().alternate_status(), 0);
  host().set(kLbaLow, 0x5a);
  EXPECT_EQ(host().get(kLbaLow), 0x5a) << "drive 0 answers for it";
  host().command(kIdentifyDevice);
  EXPECT_EQ(host().status(), 0) << "but does nothing";
  EXPECT_EQ(host().data(), 0xffffu);
  host().set_data(0);
  EXPECT_EQ(line_->edges(), 0);
}

TEST_F(IdeTest, TwoDrivesOnACableAreApart) {
  plug(Kind::kDisk, Kind::kDisk);
  on_loop([&] { std::ranges::fill(disk(1).bytes(), std::byte{0x11}); });
  host().command(kReadSectors, 5, 1);
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_TRUE(line_->level());
  host().select(IdeHost::kSecond);
  EXPECT_FALSE(line_->level()) << "only the selected drive has the line";
  EXPECT_EQ(host().status(), kGood);
  EXPECT_EQ(host().data(), 0xffffu);
  host().command(kReadSectors, 5, 1, IdeHost::kLba | IdeHost::kSecond);
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_THAT(host().read_data(512), Each(std::byte{0x11}));
  host().select(0);
  EXPECT_TRUE(line_->level()) << "its interrupt was still there";
  EXPECT_TRUE(same(host().read_data(512), on_disk(5, 512)));
}

// --- PIO ---

TEST_F(IdeTest, ReadsSectorsWithAnInterruptForEach) {
  host().command(kReadSectors, 3, 2);
  for (int sector = 0; sector < 2; ++sector) {
    ASSERT_TRUE(await_interrupt(sector + 1));
    EXPECT_EQ(host().status(), kWantsData);
    EXPECT_FALSE(line_->level());
    EXPECT_TRUE(same(host().read_data(512), on_disk(3 + static_cast<uint64_t>(sector), 512)));
  }
  EXPECT_EQ(host().status(), kGood);
  EXPECT_EQ(line_->edges(), 2) << "none after the last";
}

TEST_F(IdeTest, WritesSectorsWithAnInterruptForEach) {
  const auto data = pattern(1024, 3);
  host().command(kWriteSectors, 9, 2);
  EXPECT_EQ(host().alternate_status(), kWantsData);
  EXPECT_EQ(line_->edges(), 0) << "none before the first";
  host().write_data(std::span(data).first(512));
  ASSERT_TRUE(await_interrupt(1));
  EXPECT_EQ(host().status(), kWantsData);
  host().write_data(std::span(data).subspan(512));
  ASSERT_TRUE(await_interrupt(2));
  EXPECT_EQ(host().status(), kGood);
  EXPECT_TRUE(same(on_disk(9, 1024), data));
}

TEST_F(IdeTest, MovesSeveralSectorsAtATimeWithMultiple) {
  EXPECT_EQ(host().finish(kSetMultiple, 0, 0), kGood);
  EXPECT_EQ(host().finish(kReadMultiple), kFailed) << "it is off";
  EXPECT_EQ(host().error(), kAborted);
  EXPECT_EQ(host().finish(kSetMultiple, 0, 3), kFailed) << "no power of two";
  EXPECT_EQ(host().finish(kSetMultiple, 0, 32), kFailed);
  EXPECT_EQ(host().finish(kSetMultiple, 0, 4), kGood);
  int edges = line_->edges();
  host().command(kReadMultiple, 0, 6);
  ASSERT_TRUE(await_interrupt(++edges));
  EXPECT_EQ(host().status(), kWantsData);
  EXPECT_TRUE(same(host().read_data(2048), on_disk(0, 2048)));
  ASSERT_TRUE(await_interrupt(++edges));
  EXPECT_EQ(host().status(), kWantsData);
  EXPECT_TRUE(same(host().read_data(1024), on_disk(4, 1024)));
  EXPECT_EQ(host().status(), kGood);

  const auto data = pattern(2560, 4);
  host().command_ext(kWriteMultipleExt, 100, 5);
  host().write_data(std::span(data).first(2048));
  ASSERT_TRUE(await_interrupt(++edges));
  EXPECT_EQ(host().status(), kWantsData);
  host().write_data(std::span(data).subspan(2048));
  ASSERT_TRUE(await_interrupt(++edges));
  EXPECT_EQ(host().status(), kGood);
  EXPECT_TRUE(same(on_disk(100, 2560), data));
}

TEST_F(IdeTest, ACountOfZeroIsTheMost) {
  host().command(kReadSectors, 0, 0);
  for (uint64_t sector = 0; sector < 256; ++sector) {
    ASSERT_TRUE(host().wait_until_ready());
    ASSERT_EQ(host().status(), kWantsData) << sector;
    ASSERT_TRUE(same(host().read_data(512), on_disk(sector, 512)));
  }
  EXPECT_EQ(host().status(), kGood);
  host().command_ext(kReadSectorsExt, 0, 0);
  EXPECT_EQ(host().status(), kFailed) << "65536 sectors are more than there are";
  EXPECT_EQ(host().error(), kIdNotFound);
}

TEST_F(IdeTest, AddressesByCylinderHeadAndSector) {
  // 16 heads of 63 sectors: cylinder 2, head 3, sector 4.
  const uint64_t sector = (2 * 16 + 3) * 63 + 3;
  host().set(kDevice, 0xa3);
  host().set(kSectorCount, 1);
  host().set(kLbaLow, 4);
  host().set(kLbaMid, 2);
  host().set(kLbaHigh, 0);
  host().command(kReadSectors);
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_TRUE(same(host().read_data(512), on_disk(sector, 512)));
  host().set(kLbaLow, 0);
  host().command(kReadSectors);
  EXPECT_EQ(host().status(), kFailed) << "there is no sector 0";
  EXPECT_EQ(host().error(), kIdNotFound);
  // Four heads of 32 sectors.
  host().set(kDevice, 0xa3);
  EXPECT_EQ((host().set(kSectorCount, 32), host().command(kInitializeParameters), host().status()),
            kGood);
  host().set(kSectorCount, 1);
  host().set(kLbaLow, 1);
  host().command(kReadSectors);
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_TRUE(same(host().read_data(512), on_disk((2 * 4 + 3) * 32, 512)));
  host().set(kDevice, 0xa4);
  host().command(kReadSectors);
  EXPECT_EQ(host().status(), kFailed) << "there is no fifth head any more";
  host().set(kSectorCount, 0);
  host().command(kInitializeParameters);
  EXPECT_EQ(host().error(), kAborted);
}

TEST_F(IdeTest, SaysWhereADiskEnds) {
  EXPECT_EQ(host().finish(kReadNativeMax), kGood);
  EXPECT_EQ(host().get(kLbaLow) | host().get(kLbaMid) << 8, static_cast<int>(kSectors - 1));
  EXPECT_EQ(host().finish(kReadNativeMaxExt), kGood);
  EXPECT_EQ(host().get(kLbaLow) | host().get(kLbaMid) << 8, static_cast<int>(kSectors - 1));
  host().control(kHighOrderByte);
  EXPECT_EQ(host().get(kLbaLow), 0);
  host().set(kLbaLow, 0x77);
  host().set(kLbaLow, 0x12);
  EXPECT_EQ(host().get(kLbaLow), 0x12) << "a write ends the choice";
  host().control(kHighOrderByte);
  EXPECT_EQ(host().get(kLbaLow), 0x77);
}

TEST_F(IdeTest, WhatIsBeyondTheEndIsNotFound) {
  constexpr uint8_t kCommands[] = {kReadSectors, kWriteSectors, kReadDma,
                                   kWriteDma,    kVerify,       kReadSectors + 1};
  for (const uint8_t command : kCommands) {
    for (const uint32_t lba : {uint32_t{kSectors}, uint32_t{kSectors - 1}, 0x0fff'ffffu}) {
      EXPECT_EQ(host().finish(command, lba, 2), kFailed) << int{command} << " at " << lba;
      EXPECT_EQ(host().error(), kIdNotFound);
    }
  }
  for (const uint8_t command : {kReadSectorsExt, kWriteSectorsExt, kReadDmaExt, kWriteDmaExt}) {
    for (const uint64_t lba : {kSectors, (uint64_t{1} << 48) - 1, uint64_t{1} << 47}) {
      host().command_ext(command, lba, 1);
      EXPECT_EQ(host().status(), kFailed) << int{command} << " at " << lba;
      EXPECT_EQ(host().error(), kIdNotFound);
    }
  }
  EXPECT_EQ(disk().calls().reads + disk().calls().writes, 0);
  EXPECT_EQ(host().finish(kVerify, kSectors - 1, 1), kGood) << "the last one is there";
}

TEST_F(IdeTest, AbortsWritesToADiskThatCannotBeWritten) {
  plug(Kind::kDisk, {}, true);
  for (const uint8_t command : {kWriteSectors, kWriteDma, kWriteSectorsExt, kWriteDmaExt}) {
    EXPECT_EQ(host().finish(command), kFailed);
    EXPECT_EQ(host().error(), kAborted);
  }
  EXPECT_EQ(disk().calls().writes, 0);
  EXPECT_EQ(host().finish(kFlushCache), kGood);
  EXPECT_EQ(host().finish(kVerify, 0, 8), kGood);
}

TEST_F(IdeTest, TellsOfErrorsOfTheHost) {
  fail_next();
  EXPECT_EQ(host().finish(kReadSectors, 20), kFailed);
  EXPECT_EQ(host().error(), kUncorrectable);
  EXPECT_EQ(host().get(kLbaLow), 20) << "where";
  fail_next();
  EXPECT_EQ(host().finish(kVerify, 21), kFailed);
  EXPECT_EQ(host().error(), kUncorrectable);
  fail_next();
  EXPECT_EQ(host().finish(kFlushCache), kGood | kFault);
  fail_next();
  host().command(kWriteSectors, 22, 1);
  host().write_data(pattern(512, 1));
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_EQ(host().status(), kGood | kFault);
  EXPECT_EQ(host().finish(kVerify, 22), kGood) << "the next command works";
}

TEST_F(IdeTest, FlushesEachWriteWhenItsCacheIsOff) {
  const auto write = [&] {
    host().command(kWriteSectors, 1, 1);
    host().write_data(pattern(512, 1));
    (void)host().wait_until_ready();
    return host().status();
  };
  EXPECT_EQ(write(), kGood);
  EXPECT_EQ(disk().calls().flushes, 0);
  host().set(kErrorOrFeatures, kDisableWriteCache);
  EXPECT_EQ(host().finish(kSetFeatures), kGood);
  EXPECT_EQ(disk().calls().flushes, 1) << "of what was in it";
  EXPECT_EQ(write(), kGood);
  EXPECT_EQ(disk().calls().flushes, 2);
  fail_next(2);
  EXPECT_EQ(write(), kGood | kFault);
  fail_next(0);
  host().set(kErrorOrFeatures, kEnableWriteCache);
  EXPECT_EQ(host().finish(kSetFeatures), kGood);
  EXPECT_EQ(write(), kGood);
  EXPECT_EQ(disk().calls().flushes, 2);
}

TEST_F(IdeTest, KnowsItsPowerMode) {
  const auto mode = [&] {
    EXPECT_EQ(host().finish(kCheckPowerMode), kGood);
    return host().get(kSectorCount);
  };
  EXPECT_EQ(mode(), 0xff);
  EXPECT_EQ(host().finish(kStandbyImmediate), kGood);
  EXPECT_EQ(mode(), 0x00);
  EXPECT_EQ(host().finish(kVerify), kGood);
  EXPECT_EQ(mode(), 0xff) << "an access wakes it";
}

// --- interrupts ---

TEST_F(IdeTest, InterruptsOnlyWhenItMay) {
  host().control(kInterruptsOff);
  EXPECT_EQ(host().finish(kVerify), kGood);
  EXPECT_EQ(line_->edges(), 0);
  host().command(kVerify, 0, 1);
  ASSERT_TRUE(host().wait_until_ready());
  host().control(0);
  EXPECT_TRUE(line_->level()) << "it waited";
  EXPECT_EQ(host().master(IdeHost::kMasterStatus) & 4, 4);
  EXPECT_EQ(host().alternate_status(), kGood);
  EXPECT_TRUE(line_->level());
  EXPECT_EQ(host().status(), kGood);
  EXPECT_FALSE(line_->level());
  EXPECT_EQ(line_->edges(), 1);
}

TEST_F(IdeTest, ACommandWithdrawsTheInterruptOfTheLast) {
  host().command(kCheckPowerMode);
  EXPECT_TRUE(line_->level());
  set_delay(MemoryBackend::Delay::kHeld);
  host().command(kVerify, 0, 1);
  ASSERT_TRUE(await_held());
  EXPECT_FALSE(line_->level());
  release();
  ASSERT_TRUE(await_interrupt(2));
}

}  // namespace
}  // namespace wick::devices
