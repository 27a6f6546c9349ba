#include "devices/pit.h"

#include <gtest/gtest.h>

#include <optional>

#include "tests/fakes/counting_line.h"

namespace wick::devices {
namespace {

using namespace std::chrono_literals;
using Access = Pit::Access;

constexpr uint16_t kControl = 0x43;
constexpr uint16_t kPort61 = 0x61;
// The interrupt of counter 0 with the count 0 comes after 65536 ticks.
constexpr auto kWholeCount = 54925us;

class PitTest : public testing::Test {
 protected:
  uint8_t in(uint16_t port) {
    std::byte value{};
    if (port == kPort61)
      pit_.port_61().read(0, {&value, 1});
    else
      pit_.counters().read(port - 0x40u, {&value, 1});
    return std::to_integer<uint8_t>(value);
  }
  void out(uint16_t port, uint8_t value) {
    const std::byte byte{value};
    if (port == kPort61)
      pit_.port_61().write(0, {&byte, 1});
    else
      pit_.counters().write(port - 0x40u, {&byte, 1});
  }
  const Pit::Counter& started(size_t counter) const { return started_->counters[counter]; }

  std::chrono::nanoseconds now_{1s};
  std::optional<std::chrono::microseconds> armed_;
  std::optional<Pit::State> started_;
  int starts_ = 0;
  fakes::CountingLine line_;
  Pit pit_{line_,
           {.now = [this] { return now_; },
            .arm = [this](std::chrono::microseconds delay) { armed_ = delay; },
            .start =
                [this](const Pit::State& state) {
                  started_ = state;
                  ++starts_;
                }}};
};

TEST_F(PitTest, StartsWithTheCountInEachMode) {
  for (uint8_t mode = 0; mode <= 7; ++mode) {
    Pit pit{line_,
            {.now = [] { return 1s; },
             .arm = [](auto) { ADD_FAILURE() << "the kernel's timer counts"; },
             .start = [this](const Pit::State& state) { started_ = state; }}};
    started_.reset();
    const auto write = [&](uint64_t offset, uint8_t value) {
      const std::byte byte{value};
      pit.counters().write(offset, {&byte, 1});
    };
    write(3, static_cast<uint8_t>(0x30 | mode << 1));
    write(0, 0x34);
    EXPECT_FALSE(started_) << "half a count is none";
    write(0, 0x12);
    ASSERT_TRUE(started_) << "mode " << int{mode};
    EXPECT_EQ(started(0).count, 0x1234u);
    EXPECT_EQ(started(0).mode, mode > 5 ? mode - 4 : mode);
    EXPECT_EQ(started(0).access, Access::kLowOfBoth);
    EXPECT_EQ(started(0).next_write, Access::kLowOfBoth);
  }
}

TEST_F(PitTest, TakesOneByteOfACount) {
  out(kControl, 0x10);  // counter 0, low byte, mode 0
  out(0x40, 0x42);
  ASSERT_TRUE(started_);
  EXPECT_EQ(started(0).count, 0x42u);
  EXPECT_EQ(started(0).access, Access::kLow);
}

TEST_F(PitTest, TakesTheHighByteOfACount) {
  out(kControl, 0x65);  // counter 1, high byte, mode 2, BCD
  out(0x41, 0x42);
  ASSERT_TRUE(started_);
  EXPECT_EQ(started(1).count, 0x4200u);
  EXPECT_EQ(started(1).access, Access::kHigh);
  EXPECT_TRUE(started(1).bcd);
}

TEST_F(PitTest, StartsOnlyOnce) {
  out(kControl, 0x10);
  out(0x40, 1);
  out(0x40, 2);
  in(0x40);
  EXPECT_EQ(starts_, 1);
}

// What Linux does to a timer that it does not need: 6.1 nothing, 6.13 this.
TEST_F(PitTest, IsSwitchedOffByTheLongestCountOfMode0) {
  out(kControl, 0x30);
  out(0x40, 0);
  out(0x40, 0);
  EXPECT_FALSE(started_);
  ASSERT_TRUE(armed_);
  EXPECT_EQ(*armed_, kWholeCount + 1us) << "rounded up";

  now_ += 54ms;
  pit_.wake();
  EXPECT_EQ(line_.pulses(), 0) << "too early";
  now_ += 1ms;
  pit_.wake();
  EXPECT_EQ(line_.pulses(), 1);
}

TEST_F(PitTest, ContinuesTheLongestCountWhenAnotherCounterStarts) {
  out(kControl, 0x30);
  out(0x40, 0);
  out(0x40, 0);
  now_ += 27463us;  // half of it
  out(kControl, 0x54);
  out(0x41, 9);
  ASSERT_TRUE(started_);
  EXPECT_NEAR(started(0).count, 0x8000, 2);
  now_ += 1s;
  pit_.wake();
  EXPECT_EQ(line_.pulses(), 0) << "KVM's timer interrupts";
}

TEST_F(PitTest, DoesNotInterruptAgainWhenItStartsAfterTheLongestCount) {
  out(kControl, 0x30);
  out(0x40, 0);
  out(0x40, 0);
  now_ += 60ms;
  pit_.wake();
  EXPECT_EQ(line_.pulses(), 1);
  out(kControl, 0x54);
  out(0x41, 9);
  ASSERT_TRUE(started_);
  EXPECT_EQ(started(0).mode, Pit::Counter::kUnprogrammed);
}

TEST_F(PitTest, ANewControlWordEndsTheLongestCount) {
  out(kControl, 0x30);
  out(0x40, 0);
  out(0x40, 0);
  out(kControl, 0x34);
  now_ += 60ms;
  pit_.wake();
  EXPECT_EQ(line_.pulses(), 0);
}

// Linux calibrates the TSC like this if nothing else tells its frequency.
TEST_F(PitTest, Counter2StartsAtItsGate) {
  EXPECT_EQ(in(kPort61)&0x03, 0);
  out(kControl, 0xb0);  // counter 2, both bytes, mode 0
  EXPECT_EQ(in(kPort61)&0x20, 0) << "mode 0 begins low";
  out(0x42, 0xff);
  out(0x42, 0x7f);
  EXPECT_FALSE(started_) << "its gate is closed";
  out(kPort61, 0x03);
  ASSERT_TRUE(started_);
  EXPECT_EQ(started(2).count, 0x7fffu);
  EXPECT_TRUE(started(2).gate);
  EXPECT_TRUE(started_->speaker);
}

TEST_F(PitTest, Counter2StartsAtItsCountIfItsGateIsOpen) {
  out(kPort61, 0x01);
  EXPECT_FALSE(started_);
  EXPECT_EQ(in(kPort61)&0x03, 0x01);
  out(kControl, 0xb6);
  EXPECT_EQ(in(kPort61)&0x20, 0x20) << "mode 3 begins high";
  out(0x42, 1);
  EXPECT_FALSE(started_);
  out(0x42, 1);
  EXPECT_TRUE(started_);
}

TEST_F(PitTest, Port61HasTheRefreshToggle) {
  const uint8_t first = in(kPort61)&0x10;
  now_ += 16384ns;
  EXPECT_EQ(in(kPort61)&0x10, first ^ 0x10);
  now_ += 16384ns;
  EXPECT_EQ(in(kPort61)&0x10, first);
}

TEST_F(PitTest, AReaderOfACountStartsIt) {
  in(0x40);
  EXPECT_TRUE(started_);
}

TEST_F(PitTest, ALatchedCountStartsItWithTheLatch) {
  out(kControl, 0xb4);  // counter 2, both bytes, mode 2
  out(0x42, 0x34);
  out(0x42, 0x12);
  EXPECT_FALSE(started_);
  out(kControl, 0x80);  // latch
  ASSERT_TRUE(started_);
  EXPECT_EQ(started(2).latched, Access::kLowOfBoth);
  EXPECT_EQ(started(2).latched_count, 0x1234);
}

TEST_F(PitTest, ReadsBackTheStatusOfACounterThatDoesNotRun) {
  out(kControl, 0xb7);  // counter 2, both bytes, mode 3, BCD
  out(kControl, 0xe8);  // status of counter 2
  EXPECT_FALSE(started_);
  EXPECT_EQ(in(0x42), 0x80 | 0x37) << "the output is high";
  EXPECT_FALSE(started_);
  out(kControl, 0xb0);
  out(kControl, 0xe8);
  EXPECT_EQ(in(0x42), 0x30) << "the output of mode 0 is low";
}

TEST_F(PitTest, ReadsBackTheStatusBeforeTheCount) {
  out(kControl, 0xb6);
  out(0x42, 0x34);
  out(0x42, 0x12);
  out(kControl, 0xc8);  // both of counter 2
  ASSERT_TRUE(started_);
  EXPECT_TRUE(started(2).status_latched);
  EXPECT_EQ(started(2).status, 0xb6);
  EXPECT_EQ(in(0x42), 0xb6);
  EXPECT_EQ(in(0x42), 0x34);
  EXPECT_EQ(in(0x42), 0x12);
}

TEST_F(PitTest, TheControlWordReadsAsZero) {
  EXPECT_EQ(in(kControl), 0);
  EXPECT_FALSE(started_);
}

TEST_F(PitTest, SurvivesEveryWidthAtEveryOffset) {
  for (uint64_t offset = 0; offset < Pit::kPorts; ++offset) {
    for (size_t size = 1; size <= Pit::kPorts - offset; ++size) {
      for (const int value : {0x00, 0x30, 0xff}) {
        std::array<std::byte, 4> data;
        data.fill(static_cast<std::byte>(value));
        pit_.counters().write(offset, std::span(data).first(size));
        pit_.counters().read(offset, std::span(data).first(size));
      }
    }
  }
  std::array<std::byte, 8> data{};
  for (size_t size = 1; size <= data.size(); ++size) {
    pit_.port_61().write(0, std::span(data).first(size));
    pit_.port_61().read(0, std::span(data).first(size));
  }
  EXPECT_EQ(starts_, 1);
}

}  // namespace
}  // namespace wick::devices
