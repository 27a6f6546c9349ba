#include "devices/rtc.h"

#include <algorithm>
#include <cassert>

namespace wick::devices {

namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

enum : uint8_t {
  kSecond = 0x00,
  kSecondAlarm = 0x01,
  kMinute = 0x02,
  kMinuteAlarm = 0x03,
  kHour = 0x04,
  kHourAlarm = 0x05,
  kWeekday = 0x06,  // 1 is Sunday
  kDay = 0x07,
  kMonth = 0x08,
  kYear = 0x09,
  kA = 0x0a,
  kB = 0x0b,
  kC = 0x0c,
  kD = 0x0d,
};

// Bits of register A.
constexpr uint8_t kUpdateInProgress = 0x80;
constexpr uint8_t kDivider = 0x70;
constexpr uint8_t kDividerOf32768Hz = 0x20;
constexpr uint8_t kRate = 0x0f;
// Bits of register B. Each interrupt enable bit has the position of the interrupt's flag in
// register C.
constexpr uint8_t kSet = 0x80;
constexpr uint8_t kPeriodic = 0x40;
constexpr uint8_t kAlarm = 0x20;
constexpr uint8_t kUpdateEnded = 0x10;
constexpr uint8_t kBinary = 0x04;
constexpr uint8_t kHours24 = 0x02;
constexpr uint8_t kInterruptRequest = 0x80;  // a bit of register C
constexpr uint8_t kValid = 0x80;             // a bit of register D: the battery is good

constexpr uint8_t kAfternoon = 0x80;  // a bit of an hour in 12-hour mode
constexpr uint8_t kDontCare = 0xc0;   // an alarm byte with both bits set matches everything

// UIP is set this long before an update, so a driver that reads UIP as 0 has this much
// time to read the registers. The update itself takes no time here.
constexpr nanoseconds kUpdateWarning = microseconds(244);

constexpr seconds kDayLength = std::chrono::days(1);

constexpr int64_t kCrystalHz = 32768;
constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

// Returns the cycles of the crystal between two periodic interrupts ("Periodic interrupt rate and
// square wave output frequency"); 0: there are no periodic interrupts.
int64_t period_cycles(uint8_t register_a) {
  if ((register_a & kDivider) != kDividerOf32768Hz) return 0;
  const unsigned rate = register_a & kRate;
  if (rate == 0) return 0;
  // Rates 1 and 2 have the periods of rates 8 and 9.
  return int64_t{1} << ((rate < 3 ? rate + 7 : rate) - 1);
}

bool is_time(uint8_t index) {
  switch (index) {
    case kSecond:
    case kMinute:
    case kHour:
    case kWeekday:
    case kDay:
    case kMonth:
    case kYear:
    case Rtc::kCentury:
      return true;
    default:
      return false;
  }
}

// Returns the part of `time` after its last whole second.
nanoseconds fraction(nanoseconds time) { return time - std::chrono::floor<seconds>(time); }

}  // namespace

nanoseconds host_time() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return seconds(now.tv_sec) + nanoseconds(now.tv_nsec);
}

Rtc::Rtc(InterruptLine& line, Wires wires) : line_(line), wires_(std::move(wires)) {
  state_.bytes[kA] = 0x26;  // a 32768 Hz crystal, as firmware leaves it
  state_.bytes[kB] = kHours24;
  state_.bytes[kD] = kValid;
  state_.updated = time();
  state_.periodic_tick = periodic_tick(wires_.now());
}

Rtc::Rtc(InterruptLine& line, Wires wires, const State& state)
    : line_(line), wires_(std::move(wires)), state_(state) {
  const MutexLock lock(mutex_);
  update();
}

void Rtc::preset(std::span<const std::pair<uint8_t, uint8_t>> cmos) {
  const MutexLock lock(mutex_);
  for (const auto& [index, value] : cmos) {
    assert(index > kD && index < state_.bytes.size() && !is_time(index));
    state_.bytes[index] = value;
  }
}

void Rtc::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(mutex_);
  for (std::byte& byte : data) {
    // The index port is write-only.
    byte = std::byte{offset++ == 1 ? read_register() : uint8_t{0xff}};
  }
}

void Rtc::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(mutex_);
  for (const std::byte byte : data) {
    const auto value = std::to_integer<uint8_t>(byte);
    if (offset == 0) state_.index = value & 0x7f;  // bit 7 masks NMI, which has no source here
    if (offset == 1) write_register(value);
    ++offset;
  }
}

BusDevice::Name Rtc::name_of(uint64_t offset, bool /*write*/) const {
  return {offset == 0 ? "index" : "data", {}};
}

void Rtc::wake() {
  const MutexLock lock(mutex_);
  update();
}

Rtc::State Rtc::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

uint8_t Rtc::read_register() {
  if (is_time(state_.index) && !updates_inhibited()) store_time(time());
  switch (state_.index) {
    case kA: {
      const bool soon =
          !updates_inhibited() && fraction(wires_.now()) >= seconds(1) - kUpdateWarning;
      return state_.bytes[kA] | (soon ? kUpdateInProgress : 0);
    }
    case kC: {
      const nanoseconds host = wires_.now();
      update_flags(host);
      update_line();
      const uint8_t flags = state_.bytes[kC];
      state_.bytes[kC] = 0;
      arm_timer(host);
      update_line();
      return flags;
    }
    default:
      return state_.bytes[state_.index];
  }
}

void Rtc::write_register(uint8_t value) {
  const uint8_t index = state_.index;
  if (is_time(index)) {
    if (!updates_inhibited()) store_time(time());
    state_.bytes[index] = value;
    if (!updates_inhibited()) set_time_from_registers();
  } else if (index == kA) {
    state_.bytes[kA] = value & static_cast<uint8_t>(~kUpdateInProgress);
    state_.periodic_tick = periodic_tick(wires_.now());
  } else if (index == kB) {
    write_control(value);
  } else if (index != kC && index != kD) {
    state_.bytes[index] = value;
  }
  update();
}

void Rtc::write_control(uint8_t value) {
  const bool were_inhibited = updates_inhibited();
  if (!were_inhibited) store_time(time());
  // Setting SET clears UIE (register B, UIE), because the clock does not update while SET is
  // set.
  if ((value & kSet) != 0) value &= static_cast<uint8_t>(~kUpdateEnded);
  state_.bytes[kB] = value;
  if (were_inhibited && !updates_inhibited()) set_time_from_registers();
}

bool Rtc::updates_inhibited() const { return (state_.bytes[kB] & kSet) != 0; }

seconds Rtc::time() const { return std::chrono::floor<seconds>(wires_.now()) + state_.offset; }

void Rtc::set_time_from_registers() {
  state_.offset += stored_time() - time();
  state_.updated = time();
}

// Writes the time to the registers. gmtime_r() is not used, because its first call reads the host's
// time zone from a file.
void Rtc::store_time(seconds time) {
  const auto days = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date{std::chrono::sys_days(days)};
  const std::chrono::hh_mm_ss clock{time - days};
  const int year = std::clamp(static_cast<int>(date.year()), 0, 9999);
  auto& bytes = state_.bytes;
  bytes[kSecond] = encode(static_cast<int>(clock.seconds().count()));
  bytes[kMinute] = encode(static_cast<int>(clock.minutes().count()));
  bytes[kHour] = encode_hour(static_cast<int>(clock.hours().count()));
  const std::chrono::weekday weekday{std::chrono::sys_days(days)};
  bytes[kWeekday] = encode(static_cast<int>(weekday.c_encoding()) + 1);
  bytes[kDay] = encode(static_cast<int>(static_cast<unsigned>(date.day())));
  bytes[kMonth] = encode(static_cast<int>(static_cast<unsigned>(date.month())));
  bytes[kYear] = encode(year % 100);
  bytes[kCentury] = encode(year / 100);
}

// Returns the time in the registers. No value is invalid: a field beyond its range carries over
// into the next one.
seconds Rtc::stored_time() const {
  using namespace std::chrono;
  const auto& bytes = state_.bytes;
  const year_month first{year(decode(bytes[kCentury]) * 100 + decode(bytes[kYear])), January};
  const sys_days date = sys_days((first + months(decode(bytes[kMonth]) - 1)) / day(1)) +
                        days(decode(bytes[kDay]) - 1);
  return date.time_since_epoch() + hours(decode_hour(bytes[kHour])) +
         minutes(decode(bytes[kMinute])) + seconds(decode(bytes[kSecond]));
}

uint8_t Rtc::encode(int value) const {
  if ((state_.bytes[kB] & kBinary) != 0) return static_cast<uint8_t>(value);
  return static_cast<uint8_t>(value / 10 << 4 | value % 10);
}

int Rtc::decode(uint8_t value) const {
  if ((state_.bytes[kB] & kBinary) != 0) return value;
  return (value >> 4) * 10 + (value & 0x0f);
}

uint8_t Rtc::encode_hour(int hour) const {
  if ((state_.bytes[kB] & kHours24) != 0) return encode(hour);
  const uint8_t half = hour >= 12 ? kAfternoon : 0;
  return half | encode(hour % 12 == 0 ? 12 : hour % 12);
}

int Rtc::decode_hour(uint8_t value) const {
  if ((state_.bytes[kB] & kHours24) != 0) return decode(value);
  const int half = (value & kAfternoon) != 0 ? 12 : 0;
  return decode(value & static_cast<uint8_t>(~kAfternoon)) % 12 + half;
}

bool Rtc::alarm_at(seconds time) const {
  const auto of_day =
      static_cast<int>((time - std::chrono::floor<std::chrono::days>(time)).count());
  const auto matches = [](uint8_t wanted, uint8_t now) {
    return (wanted & kDontCare) == kDontCare || wanted == now;
  };
  return matches(state_.bytes[kSecondAlarm], encode(of_day % 60)) &&
         matches(state_.bytes[kMinuteAlarm], encode(of_day / 60 % 60)) &&
         matches(state_.bytes[kHourAlarm], encode_hour(of_day / 3600));
}

void Rtc::update() {
  const nanoseconds host = wires_.now();
  update_flags(host);
  arm_timer(host);
  update_line();
}

// Brings the flags of register C up to date.
void Rtc::update_flags(nanoseconds host) {
  uint8_t& flags = state_.bytes[kC];
  const int64_t tick = periodic_tick(host);
  if (tick != state_.periodic_tick) flags |= kPeriodic;
  state_.periodic_tick = tick;
  if (updates_inhibited()) return;
  const seconds now = std::chrono::floor<seconds>(host) + state_.offset;
  if (now > state_.updated) flags |= kUpdateEnded;
  // This call may be late, so all seconds since the last call are checked. One day is enough,
  // because every alarm time occurs within a day.
  for (seconds second = std::max(state_.updated, now - kDayLength) + seconds(1);
       second <= now && (flags & kAlarm) == 0; ++second) {
    if (alarm_at(second)) flags |= kAlarm;
  }
  state_.updated = now;
}

// Arms the timer for the next flag whose interrupt is enabled. An alarm or an update changes its
// flag at a whole second.
void Rtc::arm_timer(nanoseconds host) {
  const uint8_t enabled = state_.bytes[kB];
  nanoseconds delay = nanoseconds::max();
  if (!updates_inhibited() && (enabled & (kAlarm | kUpdateEnded)) != 0)
    delay = seconds(1) - fraction(host);
  const int64_t period = period_cycles(state_.bytes[kA]);
  if (period != 0 && (enabled & kPeriodic) != 0 && (state_.bytes[kC] & kPeriodic) == 0) {
    const int64_t cycle = (periodic_tick(host) + 1) * period;
    // Rounded up, so that the timer does not expire before the tick.
    const nanoseconds tick =
        seconds(cycle / kCrystalHz) +
        nanoseconds((cycle % kCrystalHz * kNanosecondsPerSecond + kCrystalHz - 1) / kCrystalHz);
    delay = std::min(delay, tick - host);
  }
  if (delay != nanoseconds::max()) wires_.arm(std::chrono::ceil<microseconds>(delay));
}

// Returns the number of the current period of the periodic interrupt, counted from 1970.
int64_t Rtc::periodic_tick(nanoseconds host) const {
  const int64_t period = period_cycles(state_.bytes[kA]);
  if (period == 0) return 0;
  const seconds whole = std::chrono::floor<seconds>(host);
  const int64_t cycles =
      whole.count() * kCrystalHz + (host - whole).count() * kCrystalHz / kNanosecondsPerSecond;
  return cycles / period;
}

void Rtc::update_line() {
  uint8_t& flags = state_.bytes[kC];
  flags &= static_cast<uint8_t>(~kInterruptRequest);
  const uint8_t requested = flags & state_.bytes[kB];
  const bool alarm = (requested & kAlarm) != 0;
  if (alarm && !alarmed_) wires_.alarm();
  alarmed_ = alarm;
  const bool asserted = requested != 0;
  if (asserted) flags |= kInterruptRequest;
  if (asserted == asserted_) return;
  asserted_ = asserted;
  line_.set(asserted);
}

}  // namespace wick::devices
