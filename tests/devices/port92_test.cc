#include "devices/port92.h"

#include <gtest/gtest.h>

#include "tests/fakes/registers.h"

namespace wick::devices {
namespace {

class Port92Test : public testing::Test {
 protected:
  uint64_t read() { return fakes::read_register(port_, 0, 1); }
  void write(uint8_t value) { fakes::write_register(port_, 0, value, 1); }

  int resets_ = 0;
  Port92 port_{[this] { ++resets_; }};
};

TEST_F(Port92Test, KeepsTheA20Gate) {
  EXPECT_EQ(read(), 2u) << "open, as firmware leaves it";
  write(0);
  EXPECT_EQ(read(), 0u);
  write(2);
  EXPECT_EQ(read(), 2u);
  EXPECT_EQ(resets_, 0);
}

TEST_F(Port92Test, ResetsOnceForEachEdge) {
  write(3);
  EXPECT_EQ(resets_, 1);
  write(1);
  EXPECT_EQ(resets_, 1) << "a program that changes A20 leaves the bit as it is";
  write(2);
  write(3);
  EXPECT_EQ(resets_, 2);
}

TEST_F(Port92Test, SurvivesEveryWidth) {
  for (const size_t width : fakes::kWidths) {
    fakes::write_register(port_, 0, 0, width);
    (void)fakes::read_register(port_, 0, width);
  }
  EXPECT_EQ(resets_, 0);
}

}  // namespace
}  // namespace wick::devices
