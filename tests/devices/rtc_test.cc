#include "devices/rtc.h"

#include <gtest/gtest.h>
#include <time.h>

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "tests/fakes/counting_line.h"

namespace wick::devices {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr uint8_t kA = 0x0a;
constexpr uint8_t kB = 0x0b;
constexpr uint8_t kC = 0x0c;
constexpr uint8_t kD = 0x0d;
constexpr uint8_t kUip = 0x80;
constexpr uint8_t kSet = 0x80, kPie = 0x40, kAie = 0x20, kUie = 0x10, kBinary = 0x04, k24 = 0x02;

// Century, year, month, day, hour, minute, second.
const std::vector<uint8_t> kDateAndTime = {0x32, 9, 8, 7, 4, 2, 0};

class RtcTest : public testing::Test {
 protected:
  uint8_t get(uint8_t index) {
    const std::byte address{index};
    std::byte value{};
    rtc_.write(0, {&address, 1});
    rtc_.read(1, {&value, 1});
    return std::to_integer<uint8_t>(value);
  }
  void put(uint8_t index, uint8_t value) {
    const std::byte address{index};
    const std::byte byte{value};
    rtc_.write(0, {&address, 1});
    rtc_.write(1, {&byte, 1});
  }
  std::vector<int> get_all(const std::vector<uint8_t>& indexes) {
    std::vector<int> values;
    for (const uint8_t index : indexes) values.push_back(get(index));
    return values;
  }
  // Register C without the periodic flag, which is set many times a second.
  int get_flags() { return get(kC) & ~kPie; }
  std::vector<int> date_and_time() { return get_all(kDateAndTime); }

  // Advances the clock, and calls wake() each time that it was armed for.
  void sleep(nanoseconds duration) {
    const nanoseconds end = now_ + duration;
    while (wake_at_ && *wake_at_ <= end) {
      now_ = *wake_at_;
      wake_at_.reset();
      rtc_.wake();
    }
    now_ = end;
  }

  nanoseconds now_ = seconds(1709217296);  // 2024-02-29 14:34:56, a Thursday
  std::optional<nanoseconds> wake_at_;
  fakes::CountingLine line_;
  int alarms_ = 0;
  Rtc rtc_{line_,
           {.now = [this] { return now_; },
            .arm = [this](microseconds in) { wake_at_ = now_ + in; },
            .alarm = [this] { ++alarms_; }}};
};

// --- the time ---------------------------------------------------------------

TEST_F(RtcTest, ShowsTheHostsTimeInUtcAsFirmwareLeavesIt) {
  EXPECT_EQ(date_and_time(), (std::vector<int>{0x20, 0x24, 0x02, 0x29, 0x14, 0x34, 0x56}));
  EXPECT_EQ(get(6), 5);
  EXPECT_EQ(get(kA), 0x26);
  EXPECT_EQ(get(kB), k24);
  EXPECT_EQ(get(kD), 0x80);
}

TEST_F(RtcTest, ShowsItInAllFourModes) {
  put(kB, k24 | kBinary);
  EXPECT_EQ(date_and_time(), (std::vector<int>{20, 24, 2, 29, 14, 34, 56}));
  put(kB, kBinary);
  EXPECT_EQ(date_and_time(), (std::vector<int>{20, 24, 2, 29, 0x82, 34, 56}));
  put(kB, 0);
  EXPECT_EQ(date_and_time(), (std::vector<int>{0x20, 0x24, 0x02, 0x29, 0x82, 0x34, 0x56}));
  put(kB, k24);
  EXPECT_EQ(date_and_time(), (std::vector<int>{0x20, 0x24, 0x02, 0x29, 0x14, 0x34, 0x56}));
}

TEST_F(RtcTest, CountsHoursFromTwelveIn12HourMode) {
  put(kB, 0);
  const std::vector<int> expected = {0x12, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
                                     0x08, 0x09, 0x10, 0x11, 0x92, 0x81, 0x82, 0x83,
                                     0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x90, 0x91};
  now_ = seconds(1709164800);  // midnight
  for (const int hour : expected) {
    EXPECT_EQ(get(4), hour);
    now_ += std::chrono::hours(1);
  }
}

TEST_F(RtcTest, KnowsNoonFromMidnight) {
  put(kB, 0);
  put(4, 0x12);
  put(kB, k24);
  EXPECT_EQ(get(4), 0x00);
  put(kB, 0);
  put(4, 0x92);
  put(kB, k24);
  EXPECT_EQ(get(4), 0x12);
}

TEST_F(RtcTest, GoesOn) {
  now_ += seconds(4);
  EXPECT_EQ(get(0), 0x00);
  EXPECT_EQ(get(2), 0x35);
  now_ += std::chrono::hours(24);
  EXPECT_EQ(get_all({8, 7}), (std::vector<int>{0x03, 0x01}));
}

// Sets the time as Linux's mc146818_set_time() does, in every mode of register B.
TEST_F(RtcTest, CanBeSetInAllFourModes) {
  struct Case {
    uint8_t mode;
    std::vector<uint8_t> values;  // as date_and_time()
  };
  for (const auto& [mode, values] : {Case{k24, {0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58}},
                                     Case{k24 | kBinary, {19, 99, 12, 31, 23, 59, 58}},
                                     Case{0, {0x19, 0x99, 0x12, 0x31, 0x91, 0x59, 0x58}},
                                     Case{kBinary, {19, 99, 12, 31, 0x8b, 59, 58}}}) {
    put(kB, mode | kSet);
    const uint8_t divider = get(kA);
    put(kA, divider | 0x60);
    size_t i = 0;
    for (const uint8_t index : kDateAndTime) put(index, values[i++]);
    put(kB, mode);
    put(kA, divider);
    EXPECT_EQ(date_and_time(), std::vector<int>(values.begin(), values.end())) << int{mode};

    now_ += seconds(2);
    put(kB, k24);
    EXPECT_EQ(date_and_time(), (std::vector<int>{0x20, 0, 1, 1, 0, 0, 0})) << int{mode};
    EXPECT_EQ(get(6), 7) << "the chip works the weekday out: a Saturday";
  }
}

TEST_F(RtcTest, StandsStillWhileItIsSet) {
  put(kB, k24 | kSet);
  now_ += seconds(10);
  EXPECT_EQ(get(0), 0x56);
  put(0, 0x07);
  now_ += seconds(10);
  EXPECT_EQ(get(0), 0x07);
  put(kB, k24);
  EXPECT_EQ(get(0), 0x07);
  now_ += seconds(1);
  EXPECT_EQ(get(0), 0x08);
}

TEST_F(RtcTest, CanBeSetWithoutStandingStill) {
  put(4, 0x03);
  EXPECT_EQ(date_and_time(), (std::vector<int>{0x20, 0x24, 0x02, 0x29, 0x03, 0x34, 0x56}));
}

TEST_F(RtcTest, MakesATimeOfWhateverTheGuestWrites) {
  for (const uint8_t mode : {uint8_t{0}, k24, kBinary, static_cast<uint8_t>(k24 | kBinary)}) {
    for (int value = 0; value < 256; ++value) {
      put(kB, mode | kSet);
      for (const uint8_t index : kDateAndTime) put(index, static_cast<uint8_t>(value));
      put(kB, mode);
      put(kB, k24 | kBinary);
      const std::vector<int> shown = date_and_time();
      EXPECT_LE(shown[0], 99);
      EXPECT_LE(shown[1], 99);
      EXPECT_TRUE(shown[2] >= 1 && shown[2] <= 12);
      EXPECT_TRUE(shown[3] >= 1 && shown[3] <= 31);
      EXPECT_LE(shown[4], 23);
      EXPECT_LE(shown[5], 59);
      EXPECT_LE(shown[6], 59);
    }
  }
}

TEST_F(RtcTest, AnnouncesEachUpdate) {
  EXPECT_EQ(get(kA) & kUip, 0);
  now_ += milliseconds(999);
  EXPECT_EQ(get(kA) & kUip, 0);
  now_ += microseconds(756);
  EXPECT_EQ(get(kA) & kUip, kUip);
  put(kB, k24 | kSet);
  EXPECT_EQ(get(kA) & kUip, 0) << "there is no update while SET";
  put(kB, k24);
  now_ += microseconds(244);
  EXPECT_EQ(get(kA) & kUip, 0);
}

TEST_F(RtcTest, TheRealClockIsTheHosts) {
  const auto before = std::chrono::floor<seconds>(host_time());
  Rtc real(line_, {.now = host_time, .arm = [](microseconds) {}, .alarm = [] {}});
  const std::byte index{0x09};
  std::byte year{};
  real.write(0, {&index, 1});
  real.read(1, {&year, 1});
  const time_t time = before.count();
  tm parts{};
  ::gmtime_r(&time, &parts);
  EXPECT_LE(
      std::to_integer<int>(year) / 16 * 10 + std::to_integer<int>(year) % 16 - parts.tm_year % 100,
      1);
}

// --- interrupts -------------------------------------------------------------

TEST_F(RtcTest, InterruptsAtEachUpdateUntilItIsServed) {
  now_ += milliseconds(300);
  put(kB, k24 | kUie);
  sleep(milliseconds(699));
  EXPECT_FALSE(line_.level());
  sleep(milliseconds(1));
  EXPECT_TRUE(line_.level());
  sleep(seconds(3));
  EXPECT_EQ(line_.edges(), 1);
  EXPECT_EQ(get_flags(), 0x90);
  EXPECT_FALSE(line_.level());
  EXPECT_EQ(get_flags(), 0);
  sleep(seconds(1));
  EXPECT_EQ(line_.edges(), 2);
}

TEST_F(RtcTest, InterruptsAtTheAlarm) {
  for (const uint8_t mode : {uint8_t{0}, k24}) {
    const int edges = line_.edges();
    put(1, 0x30);
    put(3, 0x35);
    put(5, mode == k24 ? 0x14 : 0x82);
    put(kB, mode | kAie);
    now_ = seconds(1709217296);
    get(kC);
    sleep(seconds(33));
    EXPECT_EQ(line_.edges(), edges);
    sleep(seconds(1));
    EXPECT_EQ(line_.edges(), edges + 1);
    EXPECT_EQ(get(0), 0x30);
    EXPECT_EQ(get_flags(), 0xb0);
    EXPECT_FALSE(line_.level());
    sleep(seconds(100));
    EXPECT_EQ(line_.edges(), edges + 1);
    put(kB, mode);
    get(kC);
  }
}

// ACPI makes a wake event of the alarm.
TEST_F(RtcTest, TellsOfEachEnabledAlarmOnce) {
  put(1, 0x00);  // each minute
  put(3, 0xff);
  put(5, 0xc0);
  put(kB, k24 | kUie);
  sleep(seconds(60));
  EXPECT_EQ(alarms_, 0) << "not enabled";
  get(kC);
  put(kB, k24 | kAie);
  sleep(seconds(60));
  EXPECT_EQ(alarms_, 1);
  sleep(seconds(60));
  EXPECT_EQ(alarms_, 1) << "still the same interrupt";
  get(kC);
  sleep(seconds(60));
  EXPECT_EQ(alarms_, 2);
}

TEST_F(RtcTest, AnAlarmByteMayMatchEverything) {
  put(1, 0x00);
  put(3, 0xff);
  put(5, 0xc0);
  put(kB, k24 | kAie);
  for (int minute = 0; minute < 5; ++minute) {
    sleep(seconds(60));
    EXPECT_EQ(get_flags(), 0xb0);
  }
  EXPECT_EQ(line_.edges(), 5);
}

TEST_F(RtcTest, AnAlarmIsNotMissedWhenTheHostIsLate) {
  put(1, 0x57);
  put(3, 0x34);
  put(5, 0x14);
  put(kB, k24 | kAie);
  now_ += std::chrono::hours(30);
  rtc_.wake();
  EXPECT_TRUE(line_.level());
}

TEST_F(RtcTest, FlagsAreThereForWhoPolls) {
  EXPECT_EQ(get_flags(), 0);
  now_ += seconds(1);
  EXPECT_EQ(get_flags(), 0x10);
  EXPECT_EQ(get_flags(), 0);
  EXPECT_EQ(line_.sets(), 0);
}

TEST_F(RtcTest, SettingTheClockIsNoUpdateAndNoAlarm) {
  put(1, 0x30);
  put(3, 0x30);
  put(5, 0x20);
  put(4, 0x23);
  EXPECT_EQ(get_flags(), 0);
}

TEST_F(RtcTest, HoldingTheClockDisablesItsUpdateInterruptAndLowersTheLine) {
  put(kB, k24 | kUie);
  sleep(seconds(1));
  EXPECT_TRUE(line_.level());
  put(kB, k24 | kUie | kSet);
  EXPECT_EQ(get(kB), k24 | kSet);
  EXPECT_FALSE(line_.level());
  put(kB, k24);
  EXPECT_EQ(get(kB), k24);
}

TEST_F(RtcTest, SleepsWhileNothingIsEnabled) {
  sleep(seconds(5));
  EXPECT_FALSE(wake_at_);
  put(kB, k24 | kUie);
  put(kB, k24);
  sleep(seconds(5));
  EXPECT_FALSE(wake_at_);
}

TEST_F(RtcTest, SurvivesAHostClockThatIsSetBack) {
  put(kB, k24 | kUie);
  now_ -= std::chrono::hours(24 * 365);
  rtc_.wake();
  EXPECT_FALSE(line_.level());
  sleep(seconds(2));
  EXPECT_TRUE(line_.level());
}

// --- the periodic interrupt ---------------------------------------------------

// SeaBIOS waits at 1024 Hz, the rate that it leaves in register A (src/hw/rtc.c, src/clock.c).
TEST_F(RtcTest, InterruptsPeriodicallyWhileThatIsEnabled) {
  sleep(seconds(1));
  EXPECT_EQ(line_.edges(), 0);
  EXPECT_FALSE(wake_at_) << "nobody waits";
  get(kC);
  put(kB, k24 | kPie);
  int interrupts = 0;
  const nanoseconds end = now_ + seconds(1);
  while (wake_at_ && *wake_at_ <= end) {
    sleep(*wake_at_ - now_);
    ASSERT_TRUE(line_.level());
    EXPECT_EQ(get(kC) & 0xc0, 0xc0);
    EXPECT_FALSE(line_.level());
    ++interrupts;
  }
  EXPECT_EQ(interrupts, 1024);
  put(kB, k24);
  now_ = end;
  const int edges = line_.edges();
  sleep(seconds(1));
  EXPECT_EQ(line_.edges(), edges);
}

// Rate 3 is the fastest one; 1 and 2 are slower.
TEST_F(RtcTest, HasTheRatesOfTheDataSheet) {
  for (const auto& [rate, hertz] : std::vector<std::pair<int, int>>{
           {1, 256}, {2, 128}, {3, 8192}, {4, 4096}, {6, 1024}, {8, 256}, {15, 2}}) {
    put(kA, static_cast<uint8_t>(0x20 | rate));
    put(kB, k24 | kPie);
    get(kC);
    int interrupts = 0;
    for (const nanoseconds end = now_ + seconds(2); wake_at_ && *wake_at_ <= end; ++interrupts) {
      sleep(*wake_at_ - now_);
      get(kC);
    }
    EXPECT_EQ(interrupts, 2 * hertz) << rate;
    put(kB, k24);
    wake_at_.reset();
    now_ = std::chrono::ceil<seconds>(now_);
  }
}

TEST_F(RtcTest, HasNoPeriodicInterruptWithoutARateOrADivider) {
  for (const uint8_t a : std::to_array<uint8_t>({0x20, 0x66, 0x76, 0x06})) {
    put(kA, a);
    put(kB, k24 | kPie);
    get(kC);
    sleep(seconds(2));
    EXPECT_FALSE(wake_at_);
    EXPECT_EQ(get(kC) & 0xc0, 0);
  }
  EXPECT_EQ(line_.edges(), 0);
}

// A guest that does not answer costs the host nothing, and finds one interrupt later.
TEST_F(RtcTest, LosesTheTicksThatTheGuestDoesNotTake) {
  put(kA, 0x23);
  put(kB, k24 | kPie);
  sleep(milliseconds(1));
  EXPECT_TRUE(line_.level());
  EXPECT_FALSE(wake_at_) << "no timer while one is pending";
  sleep(seconds(10));
  EXPECT_EQ(line_.edges(), 1);
  EXPECT_EQ(get(kC) & 0xc0, 0xc0);
  EXPECT_EQ(get(kC) & 0xc0, 0);
  EXPECT_TRUE(wake_at_);
  EXPECT_GT(*wake_at_, now_);
  EXPECT_LE(*wake_at_, now_ + microseconds(123));
}

TEST_F(RtcTest, ThePeriodicInterruptAndTheOthersShareOneTimer) {
  now_ += milliseconds(900);
  put(kA, 0x2f);  // 2 Hz
  get(kC);
  put(kB, k24 | kPie | kUie);
  sleep(milliseconds(101));
  EXPECT_EQ(get(kC), 0xd0);
  sleep(milliseconds(500));
  EXPECT_EQ(get(kC), 0xc0);
  sleep(milliseconds(500));
  EXPECT_EQ(get(kC), 0xd0);
}

TEST_F(RtcTest, ThePeriodicFlagIsThereForWhoPolls) {
  get(kC);
  EXPECT_EQ(get(kC), 0);
  now_ += milliseconds(1);
  EXPECT_EQ(get(kC), 0x40);
  EXPECT_EQ(line_.sets(), 0);
}

TEST_F(RtcTest, AnotherRateIsNoTick) {
  get(kC);
  put(kA, 0x28);
  put(kA, 0x23);
  EXPECT_EQ(get(kC), 0);
}

// --- sleep (S3) --------------------------------------------------------------

class SleepingRtcTest : public RtcTest {
 protected:
  // The clock of the board after a sleep.
  void wake_up() {
    woken_.emplace(line_after_,
                   Rtc::Wires{.now = [this] { return now_; },
                              .arm = [this](microseconds in) { wake_at_ = now_ + in; },
                              .alarm = [this] { ++alarms_after_; }},
                   rtc_.state());
  }
  int get_after(uint8_t index) {
    const std::byte address{index};
    std::byte value{};
    woken_->write(0, {&address, 1});
    woken_->read(1, {&value, 1});
    return std::to_integer<int>(value);
  }

  fakes::CountingLine line_after_;
  int alarms_after_ = 0;
  std::optional<Rtc> woken_;
};

TEST_F(SleepingRtcTest, KeepsItsMemoryAndItsTime) {
  put(0x40, 0x12);
  put(0x0f, 0xfe);
  put(4, 0x03);  // another hour
  now_ += seconds(4);
  wake_up();
  EXPECT_EQ(get_after(0x40), 0x12);
  EXPECT_EQ(get_after(0x0f), 0xfe);
  EXPECT_EQ(get_after(4), 0x03);
  EXPECT_EQ(get_after(2), 0x35);
  EXPECT_EQ(line_after_.sets(), 0);
}

TEST_F(SleepingRtcTest, HasTheAlarmThatItSleptThrough) {
  put(1, 0x57);
  put(3, 0x34);
  put(5, 0x14);
  put(kB, k24 | kAie);
  now_ += std::chrono::hours(3);
  wake_up();
  EXPECT_TRUE(line_after_.level());
  EXPECT_EQ(alarms_after_, 1);
  EXPECT_EQ(get_after(kC) & 0xa0, 0xa0);
}

TEST_F(SleepingRtcTest, StillWaitsForTheAlarmToCome) {
  put(1, 0x00);
  put(3, 0x35);
  put(5, 0x14);
  put(kB, k24 | kAie);
  now_ += seconds(2);
  wake_at_.reset();
  wake_up();
  EXPECT_FALSE(line_after_.level());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(wake_at_);
    now_ = *wake_at_;
    woken_->wake();
  }
  EXPECT_TRUE(line_after_.level());
}

// --- memory and ports -------------------------------------------------------

TEST_F(RtcTest, KeepsItsMemory) {
  std::vector<uint8_t> memory;
  for (uint8_t index = 0x0e; index < 0x80; ++index) {
    if (index != Rtc::kCentury) memory.push_back(index);
  }
  for (const uint8_t index : memory) put(index, index ^ 0x55);
  for (const uint8_t index : memory) EXPECT_EQ(get(index), index ^ 0x55);
}

TEST_F(RtcTest, HasTheBytesThatFirmwareShallFind) {
  rtc_.preset(std::to_array<std::pair<uint8_t, uint8_t>>({{0x34, 0x80}, {0x35, 0x07}, {0x5f, 3}}));
  EXPECT_EQ(get_all({0x34, 0x35, 0x5f, 0x36}), (std::vector<int>{0x80, 0x07, 3, 0}));
  put(0x34, 1);
  EXPECT_EQ(get(0x34), 1) << "it is memory";
}

TEST_F(RtcTest, IgnoresTheNmiMaskInTheIndex) {
  put(0x80 | 0x40, 0x12);
  EXPECT_EQ(get(0x40), 0x12);
}

TEST_F(RtcTest, RegistersCAndDCannotBeWritten) {
  put(kC, 0xff);
  put(kD, 0x00);
  put(kA, 0xff);
  EXPECT_EQ(get_flags(), 0);
  EXPECT_EQ(get_all({kD, kA}), (std::vector<int>{0x80, 0x7f}));
}

TEST_F(RtcTest, TheIndexCannotBeRead) {
  std::byte value{};
  rtc_.read(0, {&value, 1});
  EXPECT_EQ(value, std::byte{0xff});
}

TEST_F(RtcTest, TakesIndexAndDataInOneAccess) {
  const std::array<std::byte, 2> both = {std::byte{0x40}, std::byte{0x34}};
  rtc_.write(0, both);
  EXPECT_EQ(get(0x40), 0x34);
}

TEST_F(RtcTest, SurvivesEveryWidthAtEveryOffset) {
  for (uint64_t offset = 0; offset < 4; ++offset) {
    for (size_t size = 1; size <= 8; ++size) {
      for (int fill = 0; fill < 256; ++fill) {
        std::array<std::byte, 8> data;
        data.fill(static_cast<std::byte>(fill));
        rtc_.write(offset, std::span(data).first(size));
        rtc_.read(offset, std::span(data).first(size));
        now_ += milliseconds(10);
      }
    }
  }
}

}  // namespace
}  // namespace wick::devices
