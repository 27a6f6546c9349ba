// Tests the bus master of an IDE channel.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/devices/ide/fixture.h"

namespace wick::devices {
namespace {

using testing::Each;

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

}  // namespace
}  // namespace wick::devices
