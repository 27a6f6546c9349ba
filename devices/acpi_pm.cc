#include "devices/acpi_pm.h"

#include <array>

namespace wick::devices {

namespace {

constexpr uint64_t kStatus = 0;
constexpr uint64_t kEnable = 2;
constexpr uint64_t kControl = AcpiPm::kControlOffset;
constexpr uint64_t kTimer = AcpiPm::kTimerOffset;
constexpr uint64_t kTimerBytes = 4;
constexpr uint64_t kGpeStatus = AcpiPm::kGpeOffset;
constexpr uint64_t kGpeEnable = AcpiPm::kGpeOffset + 1;

// Bits of PM1 status and enable (tables 4.11 and 4.12). The global lock (bit 5) and the sleep
// button (bit 9) never have an event, but their enable bits must be writable: ACPICA reads them
// back and reports an error otherwise.
constexpr uint16_t kTimerCarry = 1 << 0;
constexpr uint16_t kPowerButton = 1 << 8;
constexpr uint16_t kRtcAlarm = 1 << 10;
constexpr uint16_t kWake = 1 << 15;  // WAK_STS; it has no enable bit
constexpr uint16_t kEnableBits = kTimerCarry | 1 << 5 | kPowerButton | 1 << 9 | kRtcAlarm;

// 4.8.3.3. TMR_STS is set when the highest bit of the timer changes.
constexpr uint64_t kTicksPerSecond = 3'579'545;
constexpr unsigned kTimerTopBit = 31;
constexpr uint64_t kTicksPerCarry = 1ULL << kTimerTopBit;
constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;

// Bits of PM1 control (table 4.13).
constexpr uint16_t kSciEnable = 1 << 0;
constexpr uint16_t kBusMasterReload = 1 << 1;
constexpr unsigned kSleepTypeShift = 10;
constexpr uint16_t kSleepType = 7 << kSleepTypeShift;
constexpr uint16_t kSleepEnable = 1 << 13;  // SLP_EN: starts the sleep; reads as zero
constexpr uint16_t kSleepTypeOfQemusS5 = 0;

uint8_t byte_of(uint16_t word, uint64_t offset) {
  return static_cast<uint8_t>(word >> (offset % 2 * 8));
}

uint16_t with_byte(uint16_t word, uint64_t offset, uint8_t value) {
  const unsigned shift = offset % 2 * 8;
  return static_cast<uint16_t>((word & ~(0xff << shift)) | value << shift);
}

}  // namespace

AcpiPm::AcpiPm(InterruptLine& sci, Actions actions, Clock clock)
    : AcpiPm(sci, std::move(actions), std::move(clock), State()) {}

AcpiPm::AcpiPm(InterruptLine& sci, Actions actions, Clock clock, const State& initial)
    : sci_(sci), actions_(std::move(actions)), clock_(std::move(clock)), state_(initial) {
  state_.timer_top = (ticks() >> kTimerTopBit & 1) != 0;
}

// 4.8.3.1.1: a wake sets WAK_STS and the status bit of the event.
AcpiPm::State AcpiPm::woken_by(WakeSource source) {
  State state;
  state.status = kWake | (source == WakeSource::kRtcAlarm ? kRtcAlarm : kPowerButton);
  return state;
}

// 4.8.2.2.1: the power button wakes whether PWRBTN_EN is set or not.
std::optional<AcpiPm::WakeSource> AcpiPm::pending_wake(const State& asleep) {
  if ((asleep.status & kPowerButton) != 0) return WakeSource::kPowerButton;
  if ((asleep.status & asleep.enable & kRtcAlarm) != 0) return WakeSource::kRtcAlarm;
  return std::nullopt;
}

void AcpiPm::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(mutex_);
  const uint64_t now = ticks();
  update_timer(now);
  for (std::byte& byte : data) byte = std::byte{read_register(offset++, now)};
}

void AcpiPm::write(uint64_t offset, std::span<const std::byte> data) {
  bool reset = false;
  const std::function<void()>* sleep = nullptr;
  {
    const MutexLock lock(mutex_);
    update_timer(ticks());
    for (const std::byte byte : data) {
      reset |= write_register(offset++, std::to_integer<uint8_t>(byte));
    }
    sleep = take_sleep();
    update_timer(ticks());
  }
  if (sleep != nullptr) (*sleep)();
  if (reset) actions_.reset();
}

BusDevice::Name AcpiPm::name_of(uint64_t offset, bool /*write*/) const {
  constexpr std::array<const char*, kPorts> kNames = {
      "PM1_STS", "PM1_STS", "PM1_EN", "PM1_EN", "PM1_CNT", "PM1_CNT",  "RESET_REG",
      "",        "PM_TMR",  "PM_TMR", "PM_TMR", "PM_TMR",  "GPE0_STS", "GPE0_EN"};
  return {kNames[offset], {}};
}

void AcpiPm::press_power_button() { raise(kPowerButton); }

void AcpiPm::rtc_alarm() { raise(kRtcAlarm); }

void AcpiPm::raise_gpe(unsigned number) {
  const MutexLock lock(mutex_);
  state_.gpe_status |= static_cast<uint8_t>(1u << number % 8);
  update_sci();
}

void AcpiPm::raise(uint16_t status) {
  const MutexLock lock(mutex_);
  state_.status |= status;
  update_sci();
}

void AcpiPm::wake() {
  const MutexLock lock(mutex_);
  update_timer(ticks());
}

AcpiPm::State AcpiPm::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

uint64_t AcpiPm::ticks() const {
  const auto now = static_cast<uint64_t>(clock_.now().count());
  return now / kNanosecondsPerSecond * kTicksPerSecond +
         now % kNanosecondsPerSecond * kTicksPerSecond / kNanosecondsPerSecond;
}

uint8_t AcpiPm::read_register(uint64_t offset, uint64_t ticks) const {
  if (offset >= kTimer && offset < kTimer + kTimerBytes)
    return static_cast<uint8_t>(ticks >> (offset - kTimer) * 8);
  switch (offset) {
    case kStatus:
    case kStatus + 1:
      return byte_of(state_.status, offset);
    case kEnable:
    case kEnable + 1:
      return byte_of(state_.enable, offset);
    case kControl:
    case kControl + 1:
      return byte_of(state_.control, offset);
    case kGpeStatus:
      return state_.gpe_status;
    case kGpeEnable:
      return state_.gpe_enable;
    default:
      return 0xff;
  }
}

// Returns true if the write requests a reset.
bool AcpiPm::write_register(uint64_t offset, uint8_t value) {
  switch (offset) {
    case kStatus:
    case kStatus + 1:  // writing a 1 clears the bit
      state_.status &= static_cast<uint16_t>(~with_byte(0, offset, value));
      return false;
    case kEnable:
    case kEnable + 1:
      state_.enable = with_byte(state_.enable, offset, value) & kEnableBits;
      return false;
    case kControl:
    case kControl + 1:
      // SCI_EN stays set: only SMI_CMD may change it (table 4.13), and there is none.
      state_.control = kSciEnable | (with_byte(state_.control, offset, value) &
                                     (kBusMasterReload | kSleepType | kSleepEnable));
      return false;
    case kResetOffset:
      return value == kResetValue;
    case kGpeStatus:  // writing a 1 clears the bit
      state_.gpe_status &= static_cast<uint8_t>(~value);
      return false;
    case kGpeEnable:
      state_.gpe_enable = value;
      return false;
    default:
      return false;
  }
}

// Clears SLP_EN and returns the action of the requested sleeping state; nullptr: no supported state
// is requested.
const std::function<void()>* AcpiPm::take_sleep() {
  if ((state_.control & kSleepEnable) == 0) return nullptr;
  state_.control &= static_cast<uint16_t>(~kSleepEnable);
  const int type = (state_.control & kSleepType) >> kSleepTypeShift;
  if (type == kSleepTypeS5 || type == kSleepTypeOfQemusS5) return &actions_.power_off;
  if (type == kSleepTypeS3 && actions_.suspend_to_ram) return &actions_.suspend_to_ram;
  if (type == kSleepTypeS4 && actions_.suspend_to_disk) return &actions_.suspend_to_disk;
  warning_.warn("acpi: the guest requested an unsupported sleeping state (SLP_TYP {})", type);
  return nullptr;
}

// Brings TMR_STS up to date. If the guest enables its interrupt, arms wake() for the
// next change of the timer's highest bit.
void AcpiPm::update_timer(uint64_t ticks) {
  const bool top = (ticks >> kTimerTopBit & 1) != 0;
  if (top != state_.timer_top) state_.status |= kTimerCarry;
  state_.timer_top = top;
  if ((state_.enable & kTimerCarry) != 0 && (state_.status & kTimerCarry) == 0) {
    const uint64_t left = kTicksPerCarry - ticks % kTicksPerCarry;
    // The added microsecond, more than three ticks, makes sure that wake() is not early.
    clock_.arm(std::chrono::microseconds(left * 1'000'000 / kTicksPerSecond + 1));
  }
  update_sci();
}

void AcpiPm::update_sci() {
  const bool asserted =
      (state_.status & state_.enable) != 0 || (state_.gpe_status & state_.gpe_enable) != 0;
  if (asserted == asserted_) return;
  asserted_ = asserted;
  sci_.set(asserted);
}

}  // namespace wick::devices
