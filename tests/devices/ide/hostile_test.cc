// Tests any access to the registers of an IDE channel at any time.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/devices/ide/fixture.h"

namespace wick::devices {
namespace {

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

}  // namespace
}  // namespace wick::devices
