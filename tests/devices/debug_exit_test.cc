#include "devices/debug_exit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/fakes/registers.h"

namespace wick::devices {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class DebugExitTest : public testing::Test {
 protected:
  std::vector<uint32_t> values_;
  DebugExit device_{[this](uint32_t value) { values_.push_back(value); }};
};

TEST_F(DebugExitTest, EndsTheRunWithAValueOfAnyWidth) {
  fakes::write_register(device_, 0, 0x10, 1);
  fakes::write_register(device_, 0, 0x1234, 2);
  fakes::write_register(device_, 0, 0x8765'4321, 4);
  EXPECT_THAT(values_, ElementsAre(0x10u, 0x1234u, 0x8765'4321u));
}

TEST_F(DebugExitTest, ReadsAsZeroAndEndsNothing) {
  EXPECT_EQ(fakes::read_register(device_, 0, 4), 0u);
  EXPECT_THAT(values_, IsEmpty());
}

TEST_F(DebugExitTest, SurvivesEveryWidthAtEveryOffset) {
  std::array<std::byte, 8> data{};
  for (uint64_t offset = 1; offset < 5; ++offset) {
    for (size_t size = 0; size <= data.size(); ++size) {
      device_.write(offset, std::span(data).first(size));
      device_.read(offset, std::span(data).first(size));
    }
  }
  device_.write(0, {});
  EXPECT_THAT(values_, IsEmpty());
}

// QEMU's users know these: 0 gives 1, 0x10 gives 33.
TEST(DebugExitStatus, IsOddAndHasTheLowSevenBitsOfTheValue) {
  EXPECT_EQ(DebugExit::exit_status(0), 1);
  EXPECT_EQ(DebugExit::exit_status(1), 3);
  EXPECT_EQ(DebugExit::exit_status(0x10), 33);
  EXPECT_EQ(DebugExit::exit_status(0x7f), 255);
  EXPECT_EQ(DebugExit::exit_status(0x80), 1);
  EXPECT_EQ(DebugExit::exit_status(0xffff'ffff), 255);
}

}  // namespace
}  // namespace wick::devices
