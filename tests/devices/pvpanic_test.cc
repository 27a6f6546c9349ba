#include "devices/pvpanic.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace wick::devices {
namespace {

class PvpanicTest : public testing::Test {
 protected:
  void out(uint8_t value) {
    const std::byte byte{value};
    device_.write(0, {&byte, 1});
  }

  std::string said_;
  Pvpanic device_{{.panicked = [this] { said_ += "panicked "; },
                   .crash_loaded = [this] { said_ += "crash_loaded "; }}};
};

TEST_F(PvpanicTest, OffersBothEvents) {
  std::byte events{};
  device_.read(0, {&events, 1});
  EXPECT_EQ(events, std::byte{3});
  EXPECT_EQ(said_, "");
}

TEST_F(PvpanicTest, PassesOnWhatTheGuestSays) {
  out(Pvpanic::kPanicked);
  EXPECT_EQ(said_, "panicked ");
  out(Pvpanic::kCrashLoaded);
  EXPECT_EQ(said_, "panicked crash_loaded ");
}

TEST_F(PvpanicTest, IgnoresEventsThatItDidNotOffer) {
  out(0);
  out(0xfc);
  EXPECT_EQ(said_, "");
}

TEST_F(PvpanicTest, SurvivesEveryWidthAtEveryOffset) {
  for (uint64_t offset = 0; offset < 4; ++offset) {
    for (size_t size = 0; size <= 8; ++size) {
      std::array<std::byte, 8> data{};
      data.fill(std::byte{0xfc});
      device_.write(offset, std::span(data).first(size));
      device_.read(offset, std::span(data).first(size));
    }
  }
  EXPECT_EQ(said_, "");
}

}  // namespace
}  // namespace wick::devices
