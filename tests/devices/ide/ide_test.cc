// Tests an IDE channel and its drives through the ports, with the disks on a loop of
// their own.
#include "devices/ide/ide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <thread>

#include "devices/pci/host.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/ide_host.h"
#include "tests/fakes/memory_backend.h"

namespace wick::devices {
namespace {

using namespace ata;
using fakes::IdeHost;
using fakes::MemoryBackend;
using fakes::wait_for;
using testing::Each;
using Kind = IdeDrive::Kind;

constexpr uint64_t kRamBytes = 1 << 20;
constexpr uint64_t kSectors = 4096;  // of a disk
constexpr uint64_t kDiskBytes = kSectors * kSectorBytes;
constexpr uint8_t kGood = kReady | kSeekComplete;
constexpr uint8_t kWantsData = kGood | kDataRequest;
constexpr uint8_t kFailed = kGood | kError;
constexpr uint32_t kTable = 0x1000;
constexpr uint32_t kArea = 0x20000;  // address of a data buffer in RAM

std::vector<std::byte> pattern(size_t size_bytes, uint32_t seed) {
  std::minstd_rand random(seed);
  std::vector<std::byte> bytes(size_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// One channel, with the drives that a test plugs in.
class IdeTest : public testing::Test {
 protected:
  IdeTest() { plug(Kind::kDisk); }
  ~IdeTest() override { unplug(); }

  // Makes a channel with one or two drives, as at power-on.
  void plug(Kind first, std::optional<Kind> second = {}, bool read_only = false) {
    unplug();
    line_ = std::make_unique<fakes::CountingLine>();
    add(first, read_only);
    if (second) add(*second, read_only);
    channel_.emplace(memory_, *line_, *drives_[0], second ? drives_[1].get() : nullptr);
    host_.emplace(*channel_);
  }
  void unplug() {
    on_loop([&] {
      for (const auto& disk : disks_) {
        disk->set_delay(MemoryBackend::Delay::kNone);
        disk->release_all();
      }
    });
    channel_.reset();
    drives_.clear();
    disks_.clear();
  }
  void add(Kind kind, bool read_only) {
    disks_.push_back(std::make_unique<MemoryBackend>(loop(), kDiskBytes, read_only));
    std::ranges::copy(pattern(kDiskBytes, 7), disks_.back()->bytes().begin());
    drives_.push_back(
        std::make_unique<IdeDrive>(kind, *disks_.back(), loop(), "serial-0001", "sda"));
  }

  EventLoop& loop() { return thread_->loop(); }
  const IdeHost& host() const { return *host_; }
  MemoryBackend& disk(size_t index = 0) { return *disks_[index]; }
  template <typename Function>
  void on_loop(Function function) {
    loop().call(function);
  }
  void set_delay(MemoryBackend::Delay delay, size_t index = 0) {
    on_loop([&, index] { disk(index).set_delay(delay); });
  }
  void fail_next(int count = 1) {
    on_loop([&] { disk().fail_next(count, EIO); });
  }
  void release() {
    on_loop([&] { disk().release_all(); });
  }
  bool await_held() {
    return wait_for([&] { return disk().calls().held == 1; });
  }
  bool await_interrupt(int count = 1) {
    return wait_for([&] { return line_->edges() >= count; });
  }
  std::vector<std::byte> on_disk(uint64_t sector, size_t size_bytes, size_t index = 0) {
    std::vector<std::byte> bytes(size_bytes);
    on_loop([&] {
      std::ranges::copy(disk(index).bytes().subspan(sector * kSectorBytes, size_bytes),
                        bytes.begin());
    });
    return bytes;
  }
  std::span<std::byte> ram(uint32_t at, size_t size_bytes) const {
    return memory_.slice({at}, size_bytes).value();
  }
  void set_table(std::initializer_list<IdeHost::Region> regions) {
    host().set_table(memory_, kTable, std::span(regions.begin(), regions.size()));
  }
  bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
    return std::ranges::equal(a, b);
  }

  const std::array<GuestMemory::Range, 1> ranges_ = {GuestMemory::Range{{0}, kRamBytes}};
  const GuestMemory memory_ = GuestMemory::create(ranges_).value();
  std::unique_ptr<LoopThread> thread_ = LoopThread::start("disk-test").value();
  std::unique_ptr<fakes::CountingLine> line_;
  std::vector<std::unique_ptr<MemoryBackend>> disks_;
  std::vector<std::unique_ptr<IdeDrive>> drives_;
  std::optional<IdeChannel> channel_;
  std::optional<IdeHost> host_;
};

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

// --- asynchrony ---

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

// --- DMA ---

TEST_F(IdeTest, ReadsByDmaIntoSeveralRegions) {
  set_table({{kArea, 512}, {kArea + 0x1000, 1024}, {kArea + 0x2000, 512, IdeHost::kLast}});
  host().command(kReadDma, 10, 4);
  EXPECT_TRUE(host().busy()) << "nobody takes it yet";
  host().start(IdeHost::kToMemory);
  ASSERT_TRUE(await_interrupt());
  EXPECT_EQ(host().master(IdeHost::kMasterStatus), 0x24) << "an interrupt, and no longer active";
  EXPECT_EQ(host().status(), kGood);
  host().stop();
  const auto data = on_disk(10, 2048);
  EXPECT_TRUE(same(ram(kArea, 512), std::span(data).first(512)));
  EXPECT_TRUE(same(ram(kArea + 0x1000, 1024), std::span(data).subspan(512, 1024)));
  EXPECT_TRUE(same(ram(kArea + 0x2000, 512), std::span(data).subspan(1536)));
  host().set_master(IdeHost::kMasterStatus, 4);
  EXPECT_EQ(host().master(IdeHost::kMasterStatus) & 7, 0);
}

TEST_F(IdeTest, WritesByDma) {
  const auto data = pattern(kArea, 5);  // 128 KiB
  std::ranges::copy(data, ram(kArea, data.size()).begin());
  set_table({{kArea, 0}, {kArea + 0x10000, 0, IdeHost::kLast}});
  host().start(0);  // starting the bus master before the command is allowed
  host().command(kWriteDma, 20, 0);
  ASSERT_TRUE(await_interrupt());
  EXPECT_EQ(host().status(), kGood);
  EXPECT_EQ(host().master(IdeHost::kMasterStatus) & 7, 4);
  EXPECT_TRUE(same(on_disk(20, data.size()), data));
}

TEST_F(IdeTest, MovesMoreThanItsBufferByDma) {
  const auto data = pattern(0x50000, 6);  // two buffers and a half
  std::ranges::copy(data, ram(kArea, data.size()).begin());
  set_table({{kArea, 0},
             {kArea + 0x10000, 0},
             {kArea + 0x20000, 0},
             {kArea + 0x30000, 0},
             {kArea + 0x40000, 0, IdeHost::kLast}});
  host().start(0);
  host().command_ext(kWriteDmaExt, 100, static_cast<uint16_t>(data.size() / 512));
  ASSERT_TRUE(await_interrupt());
  EXPECT_EQ(host().status(), kGood);
  EXPECT_TRUE(same(on_disk(100, data.size()), data));
  std::ranges::fill(ram(kArea, data.size()), std::byte{0});
  host().stop();
  host().start(IdeHost::kToMemory);
  host().command_ext(kReadDmaExt, 100, static_cast<uint16_t>(data.size() / 512));
  ASSERT_TRUE(await_interrupt(2));
  EXPECT_EQ(host().status(), kGood);
  EXPECT_TRUE(same(ram(kArea, data.size()), data));
  EXPECT_EQ(line_->edges(), 2);
}

// With a table longer than the transfer, the bus master stays active after the interrupt.
TEST_F(IdeTest, ATableWithoutAnEndEndsWithTheTransfer) {
  for (uint32_t at = 0; at < 0x10000; at += 8)
    memory_.write({at}, IdeHost::Region{kArea, 2, 0}).value();
  host().set_master(IdeHost::kMasterTable, 0xfff0, 4);
  host().start(IdeHost::kToMemory);
  host().command(kReadDma, 0, 0);  // 65536 regions, eight times the table
  ASSERT_TRUE(await_interrupt());
  EXPECT_EQ(host().status(), kGood);
  EXPECT_EQ(host().master(IdeHost::kMasterStatus) & 7, 5);
  host().stop();
  EXPECT_EQ(host().master(IdeHost::kMasterStatus) & 7, 4);
}

// 82371AB: the bus master is inactive without an interrupt; the driver's timeout resets
// the channel.
TEST_F(IdeTest, ATableShorterThanTheTransferStopsIt) {
  set_table({{kArea, 512, IdeHost::kLast}});
  host().start(IdeHost::kToMemory);
  host().command(kReadDma, 0, 2);
  ASSERT_TRUE(wait_for([&] { return (host().master(IdeHost::kMasterStatus) & 1) == 0; }));
  EXPECT_EQ(host().master(IdeHost::kMasterStatus) & 7, 0);
  EXPECT_TRUE(host().busy());
  EXPECT_TRUE(same(ram(kArea, 512), on_disk(0, 512)));
  // When the bus master is started again, the transfer continues.
  set_table({{kArea + 512, 512, IdeHost::kLast}});
  host().stop();
  host().start(IdeHost::kToMemory);
  ASSERT_TRUE(await_interrupt());
  EXPECT_TRUE(same(ram(kArea, 1024), on_disk(0, 1024)));
}

TEST_F(IdeTest, RegionsAndTablesOutsideRamAreAnErrorOfTheBusMaster) {
  const uint32_t end = kRamBytes;
  const auto stopped = [&](uint8_t command, uint8_t direction) {
    host().start(direction);
    host().command(command, 0, 2);
    EXPECT_TRUE(wait_for([&] { return (host().master(IdeHost::kMasterStatus) & 1) == 0; }));
    EXPECT_EQ(host().master(IdeHost::kMasterStatus) & 7, 2);
    EXPECT_TRUE(host().busy());
    host().stop();
    host().set_master(IdeHost::kMasterStatus, 2);
    host().control(kSoftwareReset);
    host().control(0);
    EXPECT_TRUE(host().wait_until_ready());
  };
  for (const IdeHost::Region region : {IdeHost::Region{end, 1024, IdeHost::kLast},
                                       IdeHost::Region{end - 512, 1024, IdeHost::kLast},
                                       IdeHost::Region{0xffff'fffe, 0, IdeHost::kLast}}) {
    set_table({region});
    stopped(kReadDma, IdeHost::kToMemory);
    stopped(kWriteDma, 0);
  }
  for (const uint32_t table : {end, end - 4, 0xffff'fffcu}) {
    host().set_master(IdeHost::kMasterTable, table, 4);
    stopped(kReadDma, IdeHost::kToMemory);
  }
  EXPECT_EQ(disk().calls().writes, 0);
  EXPECT_EQ(host().finish(kVerify), kGood);
}

TEST_F(IdeTest, TheBusMasterDoesNotGoTheWrongWay) {
  set_table({{kArea, 512, IdeHost::kLast}});
  host().start(0);
  host().command(kReadDma, 0, 1);
  on_loop([] {});
  on_loop([] {});
  EXPECT_TRUE(host().busy());
  EXPECT_EQ(host().master(IdeHost::kMasterStatus) & 7, 1);
  // The direction cannot be changed during a transfer.
  host().start(IdeHost::kToMemory);
  EXPECT_EQ(host().master(IdeHost::kMasterCommand), IdeHost::kStart);
  EXPECT_THAT(ram(kArea, 512), Each(std::byte{0}));
  host().stop();
  host().start(IdeHost::kToMemory);
  ASSERT_TRUE(await_interrupt());
  EXPECT_TRUE(same(ram(kArea, 512), on_disk(0, 512)));
}

TEST_F(IdeTest, AStoppedBusMasterTouchesNothing) {
  set_delay(MemoryBackend::Delay::kHeld);
  set_table({{kArea, 512, IdeHost::kLast}});
  host().start(IdeHost::kToMemory);
  host().command(kReadDma, 0, 1);
  ASSERT_TRUE(await_held());
  host().stop();
  release();
  on_loop([] {});
  EXPECT_THAT(ram(kArea, 512), Each(std::byte{0}));
  EXPECT_TRUE(host().busy());
  EXPECT_EQ(line_->edges(), 0);
}

TEST_F(IdeTest, TheBusMasterAloneDoesNothing) {
  set_table({{kArea, 512, IdeHost::kLast}});
  host().start(IdeHost::kToMemory);
  EXPECT_EQ(host().master(IdeHost::kMasterStatus) & 7, 1);
  host().set_master(IdeHost::kMasterTable, 0xffff'ffff, 4);
  EXPECT_EQ(fakes::read_register(channel_->bus_master(), 4, 4), 0xffff'fffcu);
  host().command(kReadDma, 0, 1);
  ASSERT_TRUE(await_interrupt());
  EXPECT_TRUE(same(ram(kArea, 512), on_disk(0, 512))) << "by the table it was started with";
}

TEST_F(IdeTest, ADescriptorIsReadOnce) {
  set_delay(MemoryBackend::Delay::kHeld);
  set_table({{kArea, 0}, {kArea + 0x10000, 0}, {kArea + 0x20000, 512, IdeHost::kLast}});
  host().start(0);
  host().command_ext(kWriteDmaExt, 0, 257);
  ASSERT_TRUE(await_held());  // the first 128 KiB
  set_table({{kRamBytes, 0}, {kRamBytes, 0}});
  release();
  ASSERT_TRUE(await_held());
  release();
  ASSERT_TRUE(await_interrupt());
  EXPECT_EQ(host().status(), kGood);
}

// --- any access at any time ---

TEST_F(IdeTest, TheDataPortTakesAnyWidth) {
  host().command(kReadSectors, 3, 1);
  ASSERT_TRUE(host().wait_until_ready());
  const auto data = on_disk(3, 512);
  size_t at = 0;
  for (const size_t width : fakes::kWidths) {
    EXPECT_EQ(host().data(width), load_le<uint64_t>(std::span(data).subspan(at, width)));
    at += width;
  }
  for (; at < 504; at += 4)
    EXPECT_EQ(host().data(4), load_le<uint32_t>(std::span(data).subspan(at)));
  for (; at < 511; ++at) (void)host().data(1);
  EXPECT_EQ(host().data(8) >> 8, fakes::all_ones(7)) << "no more than there was";
  EXPECT_EQ(host().status(), kGood);

  host().command(kWriteSectors, 3, 1);
  for (size_t i = 0; i < 64; ++i) host().set_data(0x0101010101010101 * i, 8);
  ASSERT_TRUE(host().wait_until_ready());
  host().set_data(~0ull, 8);
  EXPECT_EQ(host().status(), kGood);
  EXPECT_EQ(on_disk(3, 512)[511], std::byte{63});
}

TEST_F(IdeTest, TheDataPortIsNobodysWithoutARequest) {
  for (const size_t width : fakes::kWidths) {
    EXPECT_EQ(host().data(width), fakes::all_ones(width));
    host().set_data(0, width);
  }
  host().command(kWriteSectors, 0, 1);
  EXPECT_EQ(host().data(), 0xffffu) << "it wants, and does not have";
  host().command(kReadSectors, 0, 1);
  ASSERT_TRUE(host().wait_until_ready());
  host().set_data(0);
  EXPECT_TRUE(same(host().read_data(512), on_disk(0, 512)));
}

TEST_F(IdeTest, ACommandInTheMiddleOfATransferEndsThat) {
  host().command(kWriteSectors, 0, 4);
  host().write_data(pattern(100, 1));
  host().command(kReadSectors, 8, 1);
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_TRUE(same(host().read_data(512), on_disk(8, 512)));
  EXPECT_EQ(disk().calls().writes, 0);
}

TEST_F(IdeTest, EveryOpcodeComesToAnEnd) {
  for (const Kind kind : {Kind::kDisk, Kind::kCdrom}) {
    plug(kind);
    set_table({{kArea, 0}, {kArea + 0x10000, 0, IdeHost::kLast}});
    for (int opcode = 0; opcode < 256; ++opcode) {
      for (const uint8_t direction : {uint8_t{0}, IdeHost::kToMemory}) {
        host().start(direction);
        host().command(static_cast<uint8_t>(opcode), 1, 2);
        for (int i = 0; i < 600; ++i) host().set_data(host().data());
        // One of the directions is wrong for the command, so the drive waits.
        using Phase = IdeDrive::Phase;
        ASSERT_TRUE(wait_for([&] {
          const Phase phase = channel_->drive_state(0).phase;
          return !host().busy() || phase == Phase::kDmaIn || phase == Phase::kDmaOut;
        })) << opcode;
        host().stop();
      }
      host().control(kSoftwareReset);
      host().control(0);
      ASSERT_TRUE(host().wait_until_ready()) << opcode;
    }
  }
}

TEST_F(IdeTest, ServesSeveralThreadsAtOnce) {
  plug(Kind::kDisk, Kind::kCdrom);
  set_delay(MemoryBackend::Delay::kNextRound, 0);
  set_delay(MemoryBackend::Delay::kNextRound, 1);
  set_table({{kArea, 0, IdeHost::kLast}});
  const auto hammer = [&](uint32_t seed) {
    std::minstd_rand random(seed);
    for (int i = 0; i < 3000; ++i) {
      const auto value = static_cast<uint8_t>(random() >> 8);
      switch (random() % 8) {
        case 0:
          host().command(static_cast<uint8_t>(random() % 2 ? 0xc8 : 0xca), 0, 4);
          break;
        case 1:
          host().command(value);
          break;
        case 2:
          host().control(value & 6);
          break;
        case 3:
          host().set_master(0, value & 9);
          break;
        case 4:
          (void)host().data(4);
          break;
        case 5:
          host().set_data(value, 2);
          break;
        case 6:
          host().set(random() % 8, value);
          break;
        default:
          (void)host().status();
      }
    }
  };
  std::thread one(hammer, 1);
  std::thread two(hammer, 2);
  one.join();
  two.join();
  host().stop();
  host().control(kSoftwareReset);
  host().control(0);
  ASSERT_TRUE(host().wait_until_ready());
  EXPECT_EQ(host().status(), kGood);
}

// --- a CD-ROM drive ---

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

// --- the PCI function ---

class IdeOnPci : public IdeTest {
 protected:
  static constexpr uint8_t kSlot = 4;
  static constexpr Bus::Range kIoWindow{0xc000, 0x1000};

  IdeOnPci() {
    unplug();
    add(Kind::kDisk, false);
    ide_.emplace(memory_, lines_, std::array<IdeDrive*, 4>{drives_[0].get()});
    pci_.attach(kSlot, ide_->function(), 0).value();
    ports_.attach(kIoWindow, pci_.io_window(), "pci").value();
  }
  ~IdeOnPci() override { ide_.reset(); }

  uint64_t config(uint64_t offset, size_t width) {
    return fakes::read_register(pci_.ecam(), uint64_t{kSlot} << 15 | offset, width);
  }
  void set_config(uint64_t offset, uint64_t value, size_t width) {
    fakes::write_register(pci_.ecam(), uint64_t{kSlot} << 15 | offset, value, width);
  }
  uint64_t in(uint64_t port, size_t width) {
    std::array<std::byte, 8> data{};
    ports_.read(port, std::span(data).first(width));
    return load_le<uint64_t>(data);
  }
  void out(uint64_t port, uint64_t value, size_t width) {
    ports_.write(port, as_bytes(&value, width));
  }

  std::array<fakes::CountingLine, 2> irqs_;
  std::array<InterruptLine*, 2> lines_ = {&irqs_[0], &irqs_[1]};
  std::optional<Ide> ide_;
  PciHost pci_{{0xc000'0000, 0x10'0000}, [] {}, kIoWindow};
  Bus ports_;
};

TEST_F(IdeOnPci, IsWhatDriversLookFor) {
  EXPECT_EQ(config(0, 4), 0x71118086u);
  EXPECT_EQ(config(8, 4) >> 8, 0x010180u) << "IDE in compatibility mode, with a bus master";
  EXPECT_EQ(config(0x3d, 1), 0u) << "no PCI interrupt";
  EXPECT_EQ(config(0x40, 4), 0x8000u) << "the second channel is off";
  EXPECT_EQ(ide_->channel(1), nullptr);
  set_config(0x40, ~0u, 4);
  EXPECT_EQ(config(0x40, 4), 0x7fffffffu | 0x8000u) << "and stays so";
  set_config(0x48, ~0u, 4);
  EXPECT_EQ(config(0x48, 4), 0x3333000fu);
}

TEST_F(IdeOnPci, HasItsBusMastersInABarOfPorts) {
  EXPECT_EQ(config(4, 2) & 1, 1u);
  EXPECT_EQ(config(0x20, 4), 0xc001u);
  set_config(0x20, 0xffffffff, 4);
  EXPECT_EQ(config(0x20, 4), 0xfff1u);
  set_config(0x20, 0xc100, 4);
  EXPECT_EQ(in(0xc000, 4), 0xffffffffu);
  out(0xc104, 0x12345678, 4);
  EXPECT_EQ(in(0xc104, 4), 0x12345678u);
  EXPECT_EQ(in(0xc102, 1), 0x20u);
  EXPECT_EQ(in(0xc108, 8), ~0ull) << "nobody's: the second channel is not there";
  EXPECT_EQ(in(0xc106, 4), 0xffffffffu) << "over the border";
  out(0xc106, 0, 4);
  EXPECT_EQ(in(0xc104, 4), 0x12345678u);
  for (const uint64_t wild : {0x1f0u, 0u, 0xfff0u, 0xbff0u, 0xd000u}) {
    set_config(0x20, wild, 4);
    EXPECT_EQ(in(0xc104, 4), 0xffffffffu) << wild;
  }
  set_config(0x20, 0xc000, 4);
  set_config(4, 0, 2);
  EXPECT_EQ(in(0xc004, 4), 0xffffffffu) << "I/O space is off";
}

// PCI 3.0, 6.2.2: data that the back end delivers while Bus Master is clear stays in the
// drive's buffer.
TEST_F(IdeOnPci, MovesNoDataWithoutItsBusMasterBit) {
  const IdeHost guest(*ide_->channel(0));
  const IdeHost::Region region{kArea, 512, IdeHost::kLast};
  guest.set_table(memory_, kTable, std::span(&region, 1));
  set_delay(MemoryBackend::Delay::kHeld);
  guest.start(IdeHost::kToMemory);
  guest.command(kReadDma, 0, 1);
  ASSERT_TRUE(await_held());
  set_config(4, config(4, 2) & ~4u, 2);
  release();
  on_loop([] {});
  EXPECT_THAT(ram(kArea, 512), Each(std::byte{0}));
  EXPECT_TRUE(guest.busy());
  EXPECT_EQ(irqs_[0].edges(), 0);
  set_config(4, config(4, 2) | 4, 2);
  EXPECT_EQ(irqs_[0].edges(), 1);
  EXPECT_TRUE(same(ram(kArea, 512), on_disk(0, 512)));
}

TEST_F(IdeOnPci, TakesNoDataWithoutItsBusMasterBit) {
  const IdeHost guest(*ide_->channel(0));
  const IdeHost::Region region{kArea, 512, IdeHost::kLast};
  guest.set_table(memory_, kTable, std::span(&region, 1));
  const auto before = on_disk(0, 512);
  std::ranges::fill(ram(kArea, 512), std::byte{0x42});
  set_config(4, config(4, 2) & ~4u, 2);
  guest.start(0);
  guest.command(kWriteDma, 0, 1);
  on_loop([] {});
  EXPECT_TRUE(guest.busy());
  EXPECT_TRUE(same(on_disk(0, 512), before));
  // The drive's ports work without Bus Master: a reset ends the command.
  guest.control(kSoftwareReset);
  guest.control(0);
  set_config(4, config(4, 2) | 4, 2);
  on_loop([] {});
  EXPECT_TRUE(same(on_disk(0, 512), before));
}

TEST_F(IdeOnPci, NamesItsRegisters) {
  BusDevice& ports = ide_->channel(0)->command_block();
  EXPECT_EQ(ports.name_of(7, false).reg, "status");
  EXPECT_EQ(ports.name_of(7, true).reg, "command");
  EXPECT_EQ(pci_.io_window().name_of(2, false).reg, "bus master status");
  EXPECT_EQ(pci_.io_window().name_of(2, false).device, "ide0");
  EXPECT_EQ(pci_.io_window().name_of(8, false).reg, "");
}

}  // namespace
}  // namespace wick::devices
