#include "devices/pit.h"

#include <algorithm>

namespace wick::devices {

namespace {

constexpr uint64_t kControl = 3;
constexpr size_t kSpeakerCounter = 2;

// Fields of the control word.
constexpr unsigned kSelectShift = 6;
constexpr uint8_t kReadBack = 3;  // selects the read-back command
constexpr unsigned kAccessShift = 4;
constexpr unsigned kModeShift = 1;
constexpr uint8_t kBcd = 1 << 0;
// Bits of the read-back command. Both are active low.
constexpr uint8_t kKeepCount = 1 << 5;
constexpr uint8_t kKeepStatus = 1 << 4;

constexpr unsigned kOutShift = 7;  // the position of OUT in the status byte

// Bits of port 0x61.
constexpr uint8_t kGate = 1 << 0;
constexpr uint8_t kSpeaker = 1 << 1;
constexpr unsigned kRefreshShift = 4;
constexpr unsigned kCounterOutShift = 5;
constexpr unsigned kRefreshNsShift = 14;  // the refresh bit toggles every 16 us

constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::chrono::nanoseconds kWholeCount{0x10000 * kNanosecondsPerSecond /
                                               Pit::kTicksPerSecond};

// Returns the output of a counter that does not run: low in mode 0, high in the other modes.
uint8_t output(const Pit::Counter& counter) { return counter.mode == 0 ? 0 : 1; }

uint8_t low(uint16_t count) { return static_cast<uint8_t>(count); }
uint8_t high(uint16_t count) { return static_cast<uint8_t>(count >> 8); }

}  // namespace

void Pit::CounterPorts::read(uint64_t offset, std::span<std::byte> data) {
  const MutexLock lock(pit_.mutex_);
  for (std::byte& byte : data) {
    // The control word cannot be read, just as with KVM's timer.
    byte = std::byte{0};
    if (offset < kControl) byte = std::byte{pit_.read_counter(pit_.state_.counters[offset])};
    ++offset;
  }
  if (pit_.wanted_) pit_.start();
}

void Pit::CounterPorts::write(uint64_t offset, std::span<const std::byte> data) {
  const MutexLock lock(pit_.mutex_);
  for (const std::byte byte : data) {
    const auto value = std::to_integer<uint8_t>(byte);
    if (offset < kControl)
      pit_.write_counter(offset, value);
    else
      pit_.write_control(value);
    ++offset;
  }
  if (pit_.wanted_) pit_.start();
}

BusDevice::Name Pit::CounterPorts::name_of(uint64_t offset, bool /*write*/) const {
  constexpr std::array<std::string_view, kPorts> kNames = {"counter 0", "counter 1", "counter 2",
                                                           "control"};
  return {.reg = kNames[offset], .device = {}};
}

void Pit::Port61::read(uint64_t /*offset*/, std::span<std::byte> data) {
  const MutexLock lock(pit_.mutex_);
  std::ranges::fill(data, std::byte{pit_.read_port_61()});
}

void Pit::Port61::write(uint64_t /*offset*/, std::span<const std::byte> data) {
  const MutexLock lock(pit_.mutex_);
  pit_.write_port_61(std::to_integer<uint8_t>(data.front()));
  if (pit_.wanted_) pit_.start();
}

uint8_t Pit::read_counter(Counter& counter) {
  if (counter.status_latched) {
    counter.status_latched = false;
    return counter.status;
  }
  if (counter.latched != Access::kNone) {
    const Access latched = counter.latched;
    counter.latched = latched == Access::kLowOfBoth ? Access::kHigh : Access::kNone;
    return latched == Access::kHigh ? high(counter.latched_count) : low(counter.latched_count);
  }
  // The guest expects the count to change.
  wanted_ = true;
  const auto count = static_cast<uint16_t>(counter.count);
  switch (counter.next_read) {
    case Access::kHigh:
      return high(count);
    case Access::kLowOfBoth:
      counter.next_read = Access::kHighOfBoth;
      return low(count);
    case Access::kHighOfBoth:
      counter.next_read = Access::kLowOfBoth;
      return high(count);
    default:
      return low(count);
  }
}

void Pit::write_counter(size_t index, uint8_t value) {
  Counter& counter = state_.counters[index];
  switch (counter.next_write) {
    case Access::kHigh:
      load(index, static_cast<uint16_t>(value << 8));
      break;
    case Access::kLowOfBoth:
      counter.low_byte = value;
      counter.next_write = Access::kHighOfBoth;
      break;
    case Access::kHighOfBoth:
      counter.next_write = Access::kLowOfBoth;
      load(index, static_cast<uint16_t>(counter.low_byte | value << 8));
      break;
    default:
      load(index, value);
      break;
  }
}

void Pit::load(size_t index, uint16_t count) {
  Counter& counter = state_.counters[index];
  counter.count = count == 0 ? 0x10000 : count;
  counter.loaded = true;
  if (index == 0 && counter.mode == 0 && count == 0 && !started_) {
    last_interrupt_ = wires_.now() + kWholeCount;
    wires_.arm(std::chrono::ceil<std::chrono::microseconds>(kWholeCount));
    return;
  }
  if (index == 0) last_interrupt_ = {};
  if (counter.gate) wanted_ = true;
}

void Pit::write_control(uint8_t value) {
  const uint8_t select = value >> kSelectShift;
  if (select == kReadBack) {
    read_back(value);
    return;
  }
  Counter& counter = state_.counters[select];
  const auto access = static_cast<Access>(value >> kAccessShift & 3);
  if (access == Access::kNone) {
    latch_count(counter);
    return;
  }
  counter.access = counter.next_read = counter.next_write = access;
  counter.mode = value >> kModeShift & 7;
  if (counter.mode > 5) counter.mode -= 4;  // 6 and 7 are other names of 2 and 3
  counter.bcd = (value & kBcd) != 0;
  counter.loaded = false;
  if (select == 0) last_interrupt_ = {};
}

void Pit::read_back(uint8_t command) {
  for (size_t i = 0; i < kCounters; ++i) {
    if ((command & 2 << i) == 0) continue;
    if ((command & kKeepCount) == 0) latch_count(state_.counters[i]);
    if ((command & kKeepStatus) == 0) latch_status(state_.counters[i]);
  }
}

void Pit::latch_count(Counter& counter) {
  wanted_ = true;  // the guest will want a later count, too
  if (counter.latched != Access::kNone) return;
  counter.latched_count = static_cast<uint16_t>(counter.count);
  counter.latched = counter.access;
}

void Pit::latch_status(Counter& counter) {
  if (counter.status_latched) return;
  counter.status_latched = true;
  counter.status = static_cast<uint8_t>(output(counter) << kOutShift |
                                        static_cast<uint8_t>(counter.access) << kAccessShift |
                                        counter.mode << kModeShift | static_cast<int>(counter.bcd));
  // The output of a running counter may have changed, and the output of a counter that the guest
  // has never programmed is not known here.
  if (counter.mode == Counter::kUnprogrammed || (counter.loaded && counter.gate)) wanted_ = true;
}

uint8_t Pit::read_port_61() const {
  const Counter& counter = state_.counters[kSpeakerCounter];
  const auto refresh = static_cast<uint8_t>(wires_.now().count() >> kRefreshNsShift & 1);
  return static_cast<uint8_t>((counter.gate ? kGate : 0) | (state_.speaker ? kSpeaker : 0) |
                              refresh << kRefreshShift | output(counter) << kCounterOutShift);
}

void Pit::write_port_61(uint8_t value) {
  Counter& counter = state_.counters[kSpeakerCounter];
  state_.speaker = (value & kSpeaker) != 0;
  counter.gate = (value & kGate) != 0;
  if (counter.gate && counter.loaded) wanted_ = true;
}

// Lets KVM's timer continue. If another vCPU left the guest for an access just before that, the
// access may arrive here afterwards, and is lost. A PC promises nothing either if two CPUs program
// a counter at the same time.
void Pit::start() {
  wanted_ = false;
  if (started_) return;
  started_ = true;
  State state = state_;
  Counter& first = state.counters.front();
  if (last_interrupt_.count() != 0) {
    const auto left = last_interrupt_ - wires_.now();
    // A counter that has ended must not interrupt again.
    if (left.count() <= 0)
      first.mode = Counter::kUnprogrammed;
    else
      first.count = static_cast<uint32_t>(std::max<uint64_t>(
          1, static_cast<uint64_t>(left.count()) * kTicksPerSecond / kNanosecondsPerSecond));
    last_interrupt_ = {};
  }
  wires_.start(state);
}

void Pit::wake() {
  const MutexLock lock(mutex_);
  if (last_interrupt_.count() == 0 || started_) return;
  // The guest's time stands still during a pause, so the timer may come too early.
  if (const auto left = last_interrupt_ - wires_.now(); left.count() > 0)
    return wires_.arm(std::chrono::ceil<std::chrono::microseconds>(left));
  line_.pulse();
}

Pit::State Pit::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

}  // namespace wick::devices
