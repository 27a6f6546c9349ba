#include "devices/firmware_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace wick::devices {
namespace {

using testing::ElementsAre;

class FirmwareLogTest : public testing::Test {
 protected:
  void out(std::string_view text) {
    for (const char character : text) {
      const auto byte = static_cast<std::byte>(character);
      log_.write(0, {&byte, 1});
    }
  }

  std::vector<std::string> lines_;
  FirmwareLog log_{[this](const std::string& line) { lines_.push_back(line); }};
};

// SeaBIOS, src/hw/serialio.c (qemu_debug_preinit): it is silent if it reads anything else.
TEST_F(FirmwareLogTest, SaysThatItIsThere) {
  std::byte value{};
  log_.read(0, {&value, 1});
  EXPECT_EQ(value, std::byte{0xe9});
}

TEST_F(FirmwareLogTest, PassesOnWholeLines) {
  out("SeaBIOS\r\nno end");
  EXPECT_THAT(lines_, ElementsAre("SeaBIOS"));
  out(" yet\n\n");
  EXPECT_THAT(lines_, ElementsAre("SeaBIOS", "no end yet", ""));
}

TEST_F(FirmwareLogTest, CutsALineWithoutEnd) {
  out(std::string(1000, 'x'));
  EXPECT_EQ(lines_.size(), 1000 / FirmwareLog::kMaxLineBytes);
  for (const std::string& line : lines_) EXPECT_EQ(line.size(), FirmwareLog::kMaxLineBytes);
}

}  // namespace
}  // namespace wick::devices
