// Tests the virtio-mmio registers, with a device that only records calls. The state
// behind the registers is tested in transport_test.cc.
#include "virtio/mmio.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/fakes/fake_driver.h"
#include "tests/fakes/guest_ram.h"
#include "tests/fakes/plugged_device.h"
#include "tests/fakes/remembering_device.h"

namespace wick::virtio {
namespace {

using fakes::FakeDriver;
using fakes::MmioDriver;

class MmioTest : public testing::Test {
 protected:
  const MmioDriver& regs() const { return plugged_.driver(); }
  QueueLayout layout() const { return driver_.layout(); }

  // Brings the device to FEATURES_OK.
  void negotiate() {
    ASSERT_EQ(regs().negotiate(feature_bit(VIRTIO_F_VERSION_1)), MmioDriver::kFeaturesOk);
  }
  void start() {
    negotiate();
    regs().set_queue(0, layout());
    regs().set_status(MmioDriver::kDriverOk);
    ASSERT_EQ(regs().status(), MmioDriver::kDriverOk);
  }

  GuestMemory memory_ = fakes::memory_of(4 << 20);
  FakeDriver driver_{memory_, {.size = 16}};
  fakes::RememberingDevice device_;
  fakes::OnMmio plugged_{device_, memory_};
};

// --- identity, widths, holes ---

TEST_F(MmioTest, NamesItsRegistersAsTheSpecificationDoes) {
  EXPECT_EQ(plugged_.transport().name_of(0x50, true).reg, "QueueNotify");
  EXPECT_EQ(plugged_.transport().name_of(0x70, false).reg, "Status");
  EXPECT_EQ(plugged_.transport().name_of(0x104, false).reg, "config");
  EXPECT_EQ(plugged_.transport().name_of(0x0c4, false).reg, "");
}

TEST_F(MmioTest, IntroducesItself) {
  EXPECT_EQ(regs().read(MmioDriver::kMagic), 0x74726976u);
  EXPECT_EQ(regs().read(MmioDriver::kVersion), 2u);
}

TEST_F(MmioTest, HasNoSharedMemory) {
  for (const uint64_t offset : std::to_array<uint64_t>({0xb0, 0xb4, 0xb8, 0xbc}))
    EXPECT_EQ(regs().read(offset), 0xffffffffu) << offset;
}

// 4.2.2.2: below the configuration space only aligned 32-bit accesses are valid.
TEST_F(MmioTest, AnswersOnlyAlignedWordsBelowTheConfigurationSpace) {
  for (const size_t width : {1u, 2u, 4u, 8u}) {
    for (uint64_t offset = 0; offset < MmioDriver::kConfig; ++offset) {
      std::array<std::byte, 8> data;
      data.fill(std::byte{0xaa});
      plugged_.transport().read(offset, std::span(data).first(width));
      if (width != 4 || offset % 4 != 0) {
        EXPECT_EQ(load_le<uint64_t>(std::span(data).first(width)), 0u) << offset << " by " << width;
      }
      // Nothing is written past the access.
      for (size_t i = width; i < data.size(); ++i) ASSERT_EQ(data[i], std::byte{0xaa});
    }
  }
}

TEST_F(MmioTest, IgnoresWritesOfOddWidthOrPlace) {
  constexpr uint64_t kOnes = ~0ull;
  for (const size_t width : {1u, 2u, 4u, 8u})
    for (uint64_t offset = 0; offset < MmioDriver::kConfig; ++offset)
      if (width != 4 || offset % 4 != 0)
        plugged_.transport().write(offset, as_bytes(&kOnes, width));
  EXPECT_EQ(regs().status(), 0u);
  EXPECT_EQ(device_.activations, 0);
  regs().write(MmioDriver::kDeviceFeaturesSel, 0);
  plugged_.transport().write(MmioDriver::kDeviceFeaturesSel, as_bytes(&kOnes, 1));
  EXPECT_NE(regs().read(MmioDriver::kDeviceFeatures), 0u);
}

TEST_F(MmioTest, SurvivesEveryRegisterInEveryState) {
  const auto stages = std::to_array<uint32_t>({0, 1, 3, 11, 15});
  for (const uint32_t stage : stages) {
    for (const uint32_t value : {0u, 1u, 2u, 0x7fffffffu, 0xffffffffu}) {
      for (uint64_t offset = 0; offset < 0x200; offset += 4) {
        regs().reset();
        for (const uint32_t step : stages)
          if (step != 0 && step <= stage) regs().set_status(step);
        regs().write(offset, value);
        for (uint64_t look = 0; look < 0x200; look += 4) (void)regs().read(look);
      }
    }
  }
  regs().reset();
  EXPECT_EQ(regs().status(), 0u);
}

TEST_F(MmioTest, LetsTheDriverTakeAQueueBackBeforeDriverOk) {
  negotiate();
  regs().set_queue(0, layout());
  EXPECT_EQ(regs().read(MmioDriver::kQueueReady), 1u);
  regs().write(MmioDriver::kQueueReady, 0);
  EXPECT_EQ(regs().read(MmioDriver::kQueueReady), 0u);
  regs().set_status(MmioDriver::kDriverOk);
  EXPECT_TRUE(device_.queue_indices.empty());
}

TEST_F(MmioTest, KeepsTheCausesApart) {
  start();
  plugged_.transport().queue_interrupt(0);
  plugged_.transport().config_changed();
  EXPECT_EQ(plugged_.interrupts(), 2);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 3u);
  regs().write(MmioDriver::kInterruptAck, 1);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 2u);
  regs().write(MmioDriver::kInterruptAck, 0xfffffffc);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 2u);
  regs().write(MmioDriver::kInterruptAck, 2);
  EXPECT_EQ(regs().read(MmioDriver::kInterruptStatus), 0u);
}

TEST_F(MmioTest, NeedsResetForAQueueSizeOfMoreThanSixteenBits) {
  for (const uint32_t size : {0x10000u, 0x10010u, 0xffffffffu}) {
    negotiate();
    regs().set_queue_registers(0, layout());
    regs().write(MmioDriver::kQueueNum, size);
    regs().enable_queue(0);
    regs().set_status(MmioDriver::kDriverOk);
    EXPECT_EQ(regs().status(), MmioDriver::kDriverOk | MmioDriver::kNeedsReset) << size;
  }
}

TEST_F(MmioTest, HasNoQueueWhoseNumberOnlyStartsLikeThatOfOne) {
  negotiate();
  for (const uint32_t index : {0x10000u, 0x10001u, 0xffffffffu}) {
    EXPECT_EQ(regs().queue_max_size(index), 0u);
    regs().set_queue(index, layout());
    EXPECT_FALSE(regs().queue_ready(index));
  }
  EXPECT_FALSE(regs().queue_ready(0));
}

// 4.2.2.1: the device must not access a queue whose QueueReady is 0. The driver reads it
// back to make sure of that (4.2.2.2).
TEST_F(MmioTest, AQueueTakenBackFromARunningDeviceIsNotTouched) {
  start();
  regs().set_queue_ready(1, 0);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0)) << "that one was not ready";
  regs().set_queue_ready(0, 0);
  EXPECT_FALSE(regs().queue_ready(0));
  EXPECT_THAT(device_.queue_indices, testing::IsEmpty());
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
  // Without VIRTIO_F_RING_RESET the queue can be used again only after a device reset.
  regs().set_queue(0, layout());
  EXPECT_FALSE(regs().queue_ready(0));
  EXPECT_EQ(device_.activations, 1);
  regs().set_queue_ready(0, 0);
  EXPECT_EQ(device_.stops, 1);
  start();
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
}

TEST_F(MmioTest, TheOtherQueuesGoOnWhenOneIsTakenBack) {
  negotiate();
  regs().set_queue(0, layout());
  regs().set_queue(1, layout());
  regs().set_status(MmioDriver::kDriverOk);
  regs().set_queue_ready(1, 0);
  EXPECT_THAT(device_.queue_indices, testing::ElementsAre(0));
  EXPECT_FALSE(regs().queue_ready(1));
  EXPECT_EQ(regs().status(), MmioDriver::kDriverOk);
}

}  // namespace
}  // namespace wick::virtio
