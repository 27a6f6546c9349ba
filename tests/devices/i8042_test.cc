#include "devices/i8042.h"

#include <gtest/gtest.h>

#include <array>

namespace wick::devices {
namespace {

constexpr uint16_t kData = 0x60;
constexpr uint16_t kCommand = 0x64;
constexpr uint8_t kOutputFull = 0x01;
constexpr uint8_t kInputFull = 0x02;

class I8042Test : public testing::Test {
 protected:
  BusDevice& at(uint16_t port) {
    return port == kData ? controller_.data_port() : controller_.command_port();
  }
  uint8_t in(uint16_t port) {
    std::byte value{};
    at(port).read(0, {&value, 1});
    return std::to_integer<uint8_t>(value);
  }
  void out(uint16_t port, uint8_t value) {
    const std::byte byte{value};
    at(port).write(0, {&byte, 1});
  }
  // Returns the reply to a command; -1 if there is none.
  int answer(uint8_t command) {
    out(kCommand, command);
    return (in(kCommand)&kOutputFull) != 0 ? in(kData) : -1;
  }

  int resets_ = 0;
  I8042 controller_{[this] { ++resets_; }};
};

TEST_F(I8042Test, IsReadyForACommandAtOnce) {
  EXPECT_EQ(in(kCommand)&kInputFull, 0) << "kb_wait() would wait 130 ms";
  EXPECT_EQ(in(kCommand)&kOutputFull, 0) << "a driver would flush";
}

TEST_F(I8042Test, PulsingTheResetLineResets) {
  out(kCommand, 0xfe);
  EXPECT_EQ(resets_, 1);
  out(kCommand, 0xf0);
  EXPECT_EQ(resets_, 2);
  out(kCommand, 0xff);
  EXPECT_EQ(resets_, 2) << "pulses nothing";
}

TEST_F(I8042Test, LoweringTheResetLineInTheOutputPortResets) {
  EXPECT_EQ(answer(0xd0), 0x03);
  out(kCommand, 0xd1);
  out(kData, 0xdf);
  EXPECT_EQ(resets_, 0) << "this opens A20";
  out(kCommand, 0xd1);
  out(kData, 0xfe);
  EXPECT_EQ(resets_, 1);
}

// The order of i8042_controller_init(), i8042_check_aux() and
// i8042_controller_selftest() in Linux, which waits half a second for a missing reply.
TEST_F(I8042Test, AnswersLinuxAtOnceAndHasNoAuxiliaryPort) {
  EXPECT_EQ(answer(0xaa), 0x55);
  const int command_byte = answer(0x20);
  ASSERT_GE(command_byte, 0);
  EXPECT_EQ(answer(0x20), command_byte) << "it must be stable";
  EXPECT_NE(command_byte & 0x40, 0) << "translating";
  EXPECT_NE(in(kCommand)&0x10, 0) << "or Linux warns of a lock";

  out(kCommand, 0x60);
  out(kData, 0x65);
  EXPECT_EQ(answer(0x20), 0x65);

  out(kCommand, 0xd3);
  out(kData, 0x5a);
  EXPECT_EQ(in(kCommand) & (kOutputFull | 0x20), kOutputFull) << "not from an auxiliary port";
  EXPECT_EQ(in(kData), 0x5a);
  EXPECT_EQ(answer(0xa9), 0x01);
}

TEST_F(I8042Test, SwitchesItsPorts) {
  out(kCommand, 0xae);
  out(kCommand, 0xa8);
  EXPECT_EQ(answer(0x20) & 0x30, 0);
  out(kCommand, 0xad);
  EXPECT_EQ(answer(0x20) & 0x30, 0x10);
  out(kCommand, 0xa7);
  EXPECT_EQ(answer(0x20) & 0x30, 0x30);
}

TEST_F(I8042Test, NoKeyboardAnswers) {
  out(kData, 0xff);
  EXPECT_EQ(in(kCommand)&kOutputFull, 0);
}

// The commands that need a device; ps2_controller_test.cc has them with one.
TEST_F(I8042Test, AnswersNothingElse) {
  for (const uint8_t command : std::to_array<uint8_t>({0x21, 0x3f, 0x61, 0xa1, 0xc0, 0xd4, 0xdd}))
    EXPECT_EQ(answer(command), -1) << int{command};
  out(kData, 0xf2);
  EXPECT_EQ(in(kCommand), 0x14) << "and the last byte was no byte for a mouse";
}

TEST_F(I8042Test, ANewReplyReplacesTheOneThatWaits) {
  out(kCommand, 0xaa);
  out(kCommand, 0xa9);
  EXPECT_EQ(in(kData), 0x01);
  EXPECT_EQ(in(kCommand)&kOutputFull, 0);
  EXPECT_EQ(in(kData), 0x01) << "the last byte stays";
}

TEST_F(I8042Test, ItsA20GateIsAlwaysOpen) {
  out(kCommand, 0xd1);
  out(kData, 0xdd);
  EXPECT_EQ(answer(0xd0), 0x03);
}

TEST_F(I8042Test, ANewCommandForgetsTheOneThatWaits) {
  out(kCommand, 0xd1);
  out(kCommand, 0xad);
  out(kData, 0x00);
  EXPECT_EQ(resets_, 0);
}

TEST_F(I8042Test, SurvivesEveryWidth) {
  for (const uint16_t port : {kData, kCommand}) {
    for (size_t size = 1; size <= 8; ++size) {
      std::array<std::byte, 8> data;
      data.fill(std::byte{0xd1});
      at(port).write(0, std::span(data).first(size));
      at(port).read(0, std::span(data).first(size));
    }
  }
  EXPECT_EQ(resets_, 0);
}

}  // namespace
}  // namespace wick::devices
