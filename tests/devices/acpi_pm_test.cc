#include "devices/acpi_pm.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <optional>
#include <tuple>
#include <utility>

#include "base/bytes.h"
#include "tests/fakes/counting_line.h"

namespace wick::devices {
namespace {

constexpr uint64_t kStatus = 0;
constexpr uint64_t kEnable = 2;
constexpr uint64_t kControl = 4;
constexpr uint16_t kPowerButton = 0x0100;
constexpr uint16_t kSleepEnable = 0x2000;
constexpr uint64_t kTimer = 8;
constexpr uint16_t kTimerCarry = 0x0001;
constexpr uint16_t kRtcAlarm = 0x0400;

class AcpiPmTest : public testing::Test {
 protected:
  uint16_t in(uint64_t offset) {
    std::array<std::byte, 2> data{};
    pm_.read(offset, data);
    return load_le<uint16_t>(data);
  }
  void out(uint64_t offset, uint16_t value) { pm_.write(offset, as_bytes(&value, sizeof(value))); }
  void out_byte(uint64_t offset, uint8_t value) { pm_.write(offset, as_bytes(&value, 1)); }

  uint32_t timer() {
    std::array<std::byte, 4> data{};
    pm_.read(kTimer, data);
    return load_le<uint32_t>(data);
  }

  int power_offs_ = 0;
  int resets_ = 0;
  std::chrono::nanoseconds now_{0};
  std::optional<std::chrono::nanoseconds> wake_at_;
  fakes::CountingLine sci_;
  AcpiPm pm_{sci_,
             {.power_off = [this] { ++power_offs_; }, .reset = [this] { ++resets_; }},
             {.now = [this] { return now_; },
              .arm = [this](std::chrono::microseconds in) { wake_at_ = now_ + in; }}};
};

TEST_F(AcpiPmTest, IsInAcpiModeForever) {
  EXPECT_EQ(in(kControl), 1);
  out(kControl, 0);
  EXPECT_EQ(in(kControl), 1);
}

// Linux's acpi_hw_legacy_sleep() writes SLP_TYP first, then SLP_TYP and SLP_EN.
TEST_F(AcpiPmTest, PowersOffAsAcpicaAsksForIt) {
  const auto type = static_cast<uint16_t>(AcpiPm::kSleepTypeS5 << 10);
  out(kControl, type | 1);
  EXPECT_EQ(power_offs_, 0);
  out(kControl, type | 1 | kSleepEnable);
  EXPECT_EQ(power_offs_, 1);
  EXPECT_EQ(in(kControl), type | 1) << "SLP_EN reads as zero";
  out(kControl, type | 1);
  EXPECT_EQ(power_offs_, 1);
}

TEST_F(AcpiPmTest, PowersOffByByteWrites) {
  out_byte(kControl + 1, 0x20 | AcpiPm::kSleepTypeS5 << 2);
  EXPECT_EQ(power_offs_, 1);
}

TEST_F(AcpiPmTest, HasNoOtherSleepingState) {
  for (uint16_t type = 1; type < 8; ++type) {
    if (type != AcpiPm::kSleepTypeS5)
      out(kControl, static_cast<uint16_t>(kSleepEnable | type << 10));
  }
  EXPECT_EQ(power_offs_, 0);
}

// edk2's OvmfPkg/Library/ResetSystemLib does, and kernels that were written for QEMU.
TEST_F(AcpiPmTest, PowersOffForWhoAssumesQemu) {
  out(kControl, kSleepEnable);
  EXPECT_EQ(power_offs_, 1);
}

class SleepingAcpiPmTest : public AcpiPmTest {
 protected:
  void sleep(uint8_t type) {
    const auto control = static_cast<uint16_t>(kSleepEnable | type << 10);
    block_->write(kControl, as_bytes(&control, sizeof(control)));
  }
  void make(const AcpiPm::State& state) {
    block_.emplace(
        sci_,
        AcpiPm::Actions{.power_off = [this] { ++power_offs_; },
                        .reset = [this] { ++resets_; },
                        .suspend_to_ram =
                            [this] {
                              ++suspends_;
                              asleep_ = block_->state();  // the lock is not held
                            },
                        .suspend_to_disk = [this] { ++hibernations_; }},
        AcpiPm::Clock{.now = [this] { return now_; }, .arm = [](std::chrono::microseconds) {}},
        state);
  }
  void SetUp() override { make({}); }

  int suspends_ = 0;
  int hibernations_ = 0;
  AcpiPm::State asleep_;
  std::optional<AcpiPm> block_;
};

TEST_F(SleepingAcpiPmTest, EachStateHasItsAction) {
  sleep(AcpiPm::kSleepTypeS3);
  EXPECT_EQ(std::tuple(suspends_, hibernations_, power_offs_), std::tuple(1, 0, 0));
  EXPECT_EQ(asleep_.control, 1 | AcpiPm::kSleepTypeS3 << 10);
  sleep(AcpiPm::kSleepTypeS4);
  EXPECT_EQ(std::tuple(suspends_, hibernations_, power_offs_), std::tuple(1, 1, 0));
  sleep(AcpiPm::kSleepTypeS5);
  EXPECT_EQ(std::tuple(suspends_, hibernations_, power_offs_), std::tuple(1, 1, 1));
  for (const auto type : std::to_array<uint8_t>({3, 4, 6, 7})) sleep(type);
  EXPECT_EQ(std::tuple(suspends_, hibernations_, power_offs_), std::tuple(1, 1, 1));
}

TEST_F(SleepingAcpiPmTest, SleepsUntilAnEvent) {
  using Wake = AcpiPm::WakeSource;
  sleep(AcpiPm::kSleepTypeS3);
  EXPECT_EQ(AcpiPm::pending_wake(block_->state()), std::nullopt);
  block_->raise_gpe(0);
  EXPECT_EQ(AcpiPm::pending_wake(block_->state()), std::nullopt);
  block_->rtc_alarm();
  EXPECT_EQ(AcpiPm::pending_wake(block_->state()), std::nullopt) << "the guest did not enable it";
  block_->write(kEnable, as_bytes(&kRtcAlarm, sizeof(kRtcAlarm)));
  EXPECT_EQ(AcpiPm::pending_wake(block_->state()), Wake::kRtcAlarm);
  make({});
  block_->press_power_button();
  EXPECT_EQ(AcpiPm::pending_wake(block_->state()), Wake::kPowerButton) << "always enabled";
}

// ACPICA waits for WAK_STS, and Linux looks at PWRBTN_STS for who has woken it.
TEST_F(SleepingAcpiPmTest, SaysAfterASleepWhatHasEndedIt) {
  constexpr uint16_t kWake = 0x8000;
  using Wake = AcpiPm::WakeSource;
  for (const auto& [source, bit] :
       {std::pair(Wake::kPowerButton, kPowerButton), std::pair(Wake::kRtcAlarm, kRtcAlarm),
        std::pair(Wake::kOther, kPowerButton)}) {
    make(AcpiPm::woken_by(source));
    EXPECT_EQ(block_->state().status, kWake | bit);
    EXPECT_EQ(block_->state().control, 1) << "ACPI mode, and no SLP_TYP";
    EXPECT_FALSE(sci_.level()) << "nothing is enabled after a reset";
    block_->write(kEnable, as_bytes(&bit, sizeof(bit)));
    EXPECT_TRUE(sci_.level());
    const auto both = static_cast<uint16_t>(kWake | bit);
    block_->write(kStatus, as_bytes(&both, sizeof(both)));
    EXPECT_FALSE(sci_.level());
    EXPECT_EQ(block_->state().status, 0) << "written back by the guest";
  }
}

TEST_F(AcpiPmTest, ResetsByItsResetRegister) {
  out_byte(AcpiPm::kResetOffset, 0);
  EXPECT_EQ(resets_, 0);
  out_byte(AcpiPm::kResetOffset, AcpiPm::kResetValue);
  EXPECT_EQ(resets_, 1);
  EXPECT_EQ(power_offs_, 0);
}

TEST_F(AcpiPmTest, ThePowerButtonRaisesTheSciUntilItsStatusIsCleared) {
  out(kEnable, kPowerButton);
  pm_.press_power_button();
  EXPECT_TRUE(sci_.level());
  EXPECT_EQ(in(kStatus), kPowerButton);
  out(kStatus, 0);
  EXPECT_TRUE(sci_.level()) << "only ones clear";
  out(kStatus, kPowerButton);
  EXPECT_FALSE(sci_.level());
  EXPECT_EQ(in(kStatus), 0);
  pm_.press_power_button();
  EXPECT_EQ(sci_.edges(), 2);
}

TEST_F(AcpiPmTest, DisablingTheEventLowersTheSciAndKeepsTheStatus) {
  out(kEnable, kPowerButton);
  pm_.press_power_button();
  out(kEnable, 0);
  EXPECT_FALSE(sci_.level());
  EXPECT_EQ(in(kStatus), kPowerButton);
  out(kEnable, kPowerButton);
  EXPECT_TRUE(sci_.level()) << "a press before the driver came";
}

TEST_F(AcpiPmTest, TheSciIsToldChangesOnly) {
  out(kEnable, kPowerButton);
  pm_.press_power_button();
  pm_.press_power_button();
  in(kStatus);
  out(kEnable, kPowerButton | 0x0020);
  EXPECT_EQ(sci_.sets(), 1);
}

TEST_F(AcpiPmTest, TheClocksAlarmRaisesTheSciAsThePowerButtonDoes) {
  pm_.rtc_alarm();
  EXPECT_FALSE(sci_.level()) << "not enabled";
  EXPECT_EQ(in(kStatus), kRtcAlarm);
  out(kStatus, kRtcAlarm);
  out(kEnable, kRtcAlarm);
  EXPECT_FALSE(sci_.level());
  pm_.rtc_alarm();
  EXPECT_TRUE(sci_.level());
  out(kStatus, kRtcAlarm);
  EXPECT_FALSE(sci_.level());
}

// --- the timer ---

TEST_F(AcpiPmTest, TheTimerCountsAtItsFrequency) {
  EXPECT_EQ(timer(), 0u);
  now_ = std::chrono::seconds(1);
  EXPECT_EQ(timer(), 3'579'545u);
  now_ += std::chrono::milliseconds(500);
  EXPECT_EQ(timer(), 5'369'317u);
  now_ = std::chrono::hours(24 * 365);
  EXPECT_EQ(timer(), static_cast<uint32_t>(3'579'545ULL * 3600 * 24 * 365)) << "it wraps";
  out(kTimer, 0);
  EXPECT_EQ(timer(), static_cast<uint32_t>(3'579'545ULL * 3600 * 24 * 365)) << "read-only";
}

TEST_F(AcpiPmTest, TheTimersCarrySetsItsStatusEachTime) {
  EXPECT_EQ(in(kStatus), 0);
  now_ = std::chrono::seconds(599);
  EXPECT_EQ(in(kStatus), 0);
  now_ = std::chrono::seconds(600);  // 2^31 ticks are 599.93 s
  EXPECT_EQ(in(kStatus), kTimerCarry);
  out(kStatus, kTimerCarry);
  EXPECT_EQ(in(kStatus), 0);
  now_ = std::chrono::seconds(1200);
  EXPECT_EQ(in(kStatus), kTimerCarry);
  EXPECT_FALSE(sci_.level());
  EXPECT_FALSE(wake_at_) << "nobody asked for an interrupt";
}

TEST_F(AcpiPmTest, TheTimersCarryInterruptsWhenEnabled) {
  out(kEnable, kTimerCarry);
  for (int carry = 1; carry <= 3; ++carry) {
    ASSERT_TRUE(wake_at_);
    now_ = *std::exchange(wake_at_, std::nullopt);
    EXPECT_EQ(timer() >> 31, static_cast<uint32_t>(carry % 2));
    pm_.wake();
    EXPECT_TRUE(sci_.level());
    EXPECT_FALSE(wake_at_);
    out(kStatus, kTimerCarry);
    EXPECT_FALSE(sci_.level());
  }
}

// ACPICA clears the status of an edge-triggered event before it runs the method for it.
TEST_F(AcpiPmTest, AGeneralPurposeEventRaisesTheSciUntilItsStatusIsCleared) {
  const auto in_byte = [this](uint64_t offset) {
    std::array<std::byte, 1> data{};
    pm_.read(offset, data);
    return std::to_integer<uint8_t>(data[0]);
  };
  pm_.raise_gpe(0);
  EXPECT_EQ(in_byte(12), 0x01);
  EXPECT_FALSE(sci_.level()) << "nobody has enabled it";
  out_byte(13, 0x01);
  EXPECT_EQ(in_byte(13), 0x01);
  EXPECT_TRUE(sci_.level());
  out_byte(12, 0xfe);
  EXPECT_TRUE(sci_.level()) << "that was another";
  out_byte(12, 0x01);
  EXPECT_FALSE(sci_.level());
  EXPECT_EQ(in_byte(12), 0);
  pm_.raise_gpe(7);
  EXPECT_FALSE(sci_.level());
  EXPECT_EQ(in_byte(12), 0x80);
}

TEST_F(AcpiPmTest, TheSciStaysWhileOneOfTwoKindsOfEventIsPending) {
  out(kEnable, kPowerButton);
  out_byte(13, 0x01);
  pm_.press_power_button();
  pm_.raise_gpe(0);
  out(kStatus, kPowerButton);
  EXPECT_TRUE(sci_.level());
  out_byte(12, 0x01);
  EXPECT_FALSE(sci_.level());
}

// Linux's acpi_enable_event() reads the bit back and fails if it is not set.
TEST_F(AcpiPmTest, EveryFixedEventCanBeEnabled) {
  out(kEnable, 0xffff);
  EXPECT_EQ(in(kEnable), 0x0721);
  EXPECT_EQ(in(kStatus), 0);
  EXPECT_FALSE(sci_.level());
}

TEST_F(AcpiPmTest, ByteWritesLeaveTheOtherByteAlone) {
  pm_.press_power_button();
  out_byte(kStatus, 0xff);
  EXPECT_EQ(in(kStatus), kPowerButton);
  out_byte(kStatus + 1, 0x01);
  EXPECT_EQ(in(kStatus), 0);
  out(kEnable, 0x0721);
  out_byte(kEnable, 0);
  EXPECT_EQ(in(kEnable), 0x0700);
}

TEST_F(AcpiPmTest, SurvivesEveryWidthAtEveryOffset) {
  for (uint64_t offset = 0; offset < 16; ++offset) {
    for (size_t size = 1; size <= 8; ++size) {
      std::array<std::byte, 8> data{};
      pm_.write(offset, std::span(data).first(size));
      pm_.read(offset, std::span(data).first(size));
    }
  }
  EXPECT_EQ(in(AcpiPm::kResetOffset), 0xffff);
  EXPECT_EQ(pm_.state(), AcpiPm::State{});
  EXPECT_EQ(power_offs_ + resets_, 0);
}

}  // namespace
}  // namespace wick::devices
