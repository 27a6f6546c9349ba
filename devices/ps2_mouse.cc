#include "devices/ps2_mouse.h"

#include <linux/input-event-codes.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace wick::devices {

namespace {

constexpr uint8_t kSetScaling1To1 = 0xe6;
constexpr uint8_t kSetScaling2To1 = 0xe7;
constexpr uint8_t kSetResolution = 0xe8;
constexpr uint8_t kStatusRequest = 0xe9;
constexpr uint8_t kSetStreamMode = 0xea;
constexpr uint8_t kReadData = 0xeb;
constexpr uint8_t kResetWrapMode = 0xec;
constexpr uint8_t kSetWrapMode = 0xee;
constexpr uint8_t kSetRemoteMode = 0xf0;
constexpr uint8_t kReadDeviceType = 0xf2;
constexpr uint8_t kSetSampleRate = 0xf3;
constexpr uint8_t kEnable = 0xf4;
constexpr uint8_t kDisable = 0xf5;
constexpr uint8_t kSetDefault = 0xf6;
constexpr uint8_t kResend = 0xfe;
constexpr uint8_t kReset = 0xff;

constexpr uint8_t kStandardId = 0;
constexpr uint8_t kWheelId = 3;
constexpr uint8_t kExplorerId = 4;

constexpr uint8_t kMaxResolution = 3;
constexpr uint8_t kDefaultResolution = 2;
constexpr uint8_t kDefaultSampleRate = 100;
constexpr uint8_t kSampleRates[] = {10, 20, 40, 60, 80, 100, 200};

// Bits of a packet's first byte.
constexpr uint8_t kLeft = 0x01;
constexpr uint8_t kRight = 0x02;
constexpr uint8_t kMiddle = 0x04;
constexpr uint8_t kAlwaysSet = 0x08;
constexpr uint8_t kNegativeX = 0x10;
constexpr uint8_t kNegativeY = 0x20;
// The overflow bits (0x40, 0x80) stay 0, because the rest of a movement is in the next packet.

// Bits of the status byte.
constexpr uint8_t kStatusRight = 0x01;
constexpr uint8_t kStatusMiddle = 0x02;
constexpr uint8_t kStatusLeft = 0x04;
constexpr uint8_t kStatusScaling = 0x10;
constexpr uint8_t kStatusReporting = 0x20;
constexpr uint8_t kStatusRemote = 0x40;

// A count in a packet has 9 bits. Scaling may double it.
constexpr int kMaxCount = 255;
constexpr int kMaxScaledCount = kMaxCount / 2;
constexpr int kMaxWheel = 127;
constexpr int kMaxExplorerWheel = 7;  // the field has 4 bits
// The bounds of merged movements, so that a driver that reads late soon catches up.
constexpr int kMaxMerged = 40 * kMaxCount;  // more pixels than a screen is wide
constexpr int kMaxMergedWheel = 100;

int add_bounded(int sum, int more, int most) {
  return std::clamp(sum + std::clamp(more, -most, most), -most, most);
}

// Returns the count with 2:1 scaling ("Mouse", the table of 2:1 scaling).
int scale(int count) {
  constexpr int kScaled[] = {0, 1, 1, 3, 6, 9};
  const int size = std::abs(count);
  const int scaled = size < static_cast<int>(std::size(kScaled)) ? kScaled[size] : 2 * size;
  return count < 0 ? -scaled : scaled;
}

// Takes up to `most` from `count`, in either direction, and returns the part taken.
int take(int& count, int most) {
  const int taken = std::clamp(count, -most, most);
  count -= taken;
  return taken;
}

}  // namespace

bool Ps2Mouse::active() const {
  const MutexLock lock(mutex_);
  return state_.reporting;
}

void Ps2Mouse::key(uint16_t code, bool down) {
  const uint8_t button = code == BTN_LEFT     ? kLeft
                         : code == BTN_RIGHT  ? kRight
                         : code == BTN_MIDDLE ? kMiddle
                                              : uint8_t{0};
  {
    const MutexLock lock(mutex_);
    const auto buttons =
        static_cast<uint8_t>(down ? state_.buttons | button : state_.buttons & ~button);
    if (std::exchange(state_.buttons, buttons) == buttons) return;
    if (!add({.buttons = buttons})) return;
  }
  if (on_data_) on_data_();
}

void Ps2Mouse::move_by(int dx, int dy) {
  {
    const MutexLock lock(mutex_);
    // A packet's Y counts up, `dy` counts down. The clamp keeps the negation from overflowing.
    const int up = -std::clamp(dy, -kMaxMerged, kMaxMerged);
    if (!add({.buttons = state_.buttons, .x = dx, .y = up})) return;
  }
  if (on_data_) on_data_();
}

void Ps2Mouse::scroll(int steps) {
  {
    const MutexLock lock(mutex_);
    const int towards = -std::clamp(steps, -kMaxMergedWheel, kMaxMergedWheel);
    if (state_.id == kStandardId || !add({.buttons = state_.buttons, .wheel = towards})) return;
  }
  if (on_data_) on_data_();
}

// Adds a motion. Returns true if the mouse must send a packet without a request.
bool Ps2Mouse::add(const Motion& motion) {
  // With reporting disabled, the mouse does not count movements.
  if (!state_.reporting && !state_.remote) return false;
  auto& motions = state_.motions;
  const uint8_t before = motions.empty() ? state_.sent_buttons : motions.back().buttons;
  const bool moved = motion.x != 0 || motion.y != 0 || motion.wheel != 0;
  if (motion.buttons == before && !moved) return false;
  if (motions.empty() || (motion.buttons != before && motions.size() < kMaxMotions))
    motions.push_back({.buttons = motion.buttons});
  Motion& last = motions.back();
  last.buttons = motion.buttons;
  last.x = add_bounded(last.x, motion.x, kMaxMerged);
  last.y = add_bounded(last.y, motion.y, kMaxMerged);
  last.wheel = add_bounded(last.wheel, motion.wheel, kMaxMergedWheel);
  return !state_.remote;
}

void Ps2Mouse::connect(std::function<void()> on_data) { on_data_ = std::move(on_data); }

std::optional<uint8_t> Ps2Mouse::read() {
  const MutexLock lock(mutex_);
  if (state_.replies.empty() && state_.packet.empty() && state_.reporting && !state_.remote &&
      !state_.wrap && !state_.motions.empty()) {
    make_packet(state_.packet, state_.scaling_2_1);
    state_.last_sent = state_.packet;
  }
  auto& from = state_.replies.empty() ? state_.packet : state_.replies;
  if (from.empty()) return std::nullopt;
  const uint8_t byte = from.front();
  from.pop_front();
  return byte;
}

// Appends a packet with as much of the first motion as fits.
void Ps2Mouse::make_packet(std::deque<uint8_t>& packet, bool scaled) {
  Motion motion{.buttons = state_.buttons};
  if (!state_.motions.empty()) motion = state_.motions.front();
  const int most = scaled ? kMaxScaledCount : kMaxCount;
  int x = take(motion.x, most);
  int y = take(motion.y, most);
  const int most_wheel = state_.id == kExplorerId ? kMaxExplorerWheel : kMaxWheel;
  const int wheel = take(motion.wheel, most_wheel);
  if (scaled) {
    x = scale(x);
    y = scale(y);
  }
  packet.push_back(static_cast<uint8_t>(kAlwaysSet | motion.buttons | (x < 0 ? kNegativeX : 0) |
                                        (y < 0 ? kNegativeY : 0)));
  packet.push_back(static_cast<uint8_t>(x));
  packet.push_back(static_cast<uint8_t>(y));
  // The explorer's fourth and fifth buttons would be the bits 4 and 5 of the fourth byte.
  if (state_.id == kWheelId) packet.push_back(static_cast<uint8_t>(wheel));
  if (state_.id == kExplorerId) packet.push_back(static_cast<uint8_t>(wheel & 0x0f));
  state_.sent_buttons = motion.buttons;
  if (state_.motions.empty()) return;
  if (motion.x == 0 && motion.y == 0 && (motion.wheel == 0 || state_.id == kStandardId))
    state_.motions.pop_front();
  else
    state_.motions.front() = motion;
}

// Drops the rest of the packet that is being sent, because a command ends it. The packet's buttons
// are sent again, so that no change of a button is lost.
void Ps2Mouse::drop_packet() {
  if (state_.packet.empty()) return;
  state_.packet.clear();
  if (state_.motions.size() < kMaxMotions)
    state_.motions.push_front({.buttons = state_.sent_buttons});
}

void Ps2Mouse::write(uint8_t byte) {
  const MutexLock lock(mutex_);
  drop_packet();
  if (state_.wrap && byte != kResetWrapMode && byte != kReset) return reply({byte});
  const uint8_t pending = std::exchange(state_.pending_command, uint8_t{0});
  if (pending != 0 && byte < kSetScaling1To1)
    parameter(pending, byte);
  else
    command(byte);
}

// Returns the first byte of the answer to a status request.
uint8_t Ps2Mouse::status() const {
  const uint8_t pressed = state_.buttons;
  return static_cast<uint8_t>(
      ((pressed & kRight) != 0 ? kStatusRight : 0) |
      ((pressed & kMiddle) != 0 ? kStatusMiddle : 0) | ((pressed & kLeft) != 0 ? kStatusLeft : 0) |
      (state_.scaling_2_1 ? kStatusScaling : 0) | (state_.reporting ? kStatusReporting : 0) |
      (state_.remote ? kStatusRemote : 0));
}

void Ps2Mouse::command(uint8_t byte) {
  switch (byte) {
    case kSetScaling1To1:
    case kSetScaling2To1:
      state_.scaling_2_1 = byte == kSetScaling2To1;
      return reply({kPs2Acknowledge});
    case kSetResolution:
    case kSetSampleRate:
      state_.pending_command = byte;
      return reply({kPs2Acknowledge});
    case kStatusRequest:
      return reply({kPs2Acknowledge, status(), state_.resolution, state_.sample_rate});
    case kSetStreamMode:
    case kSetRemoteMode:
      state_.remote = byte == kSetRemoteMode;
      state_.motions.clear();
      return reply({kPs2Acknowledge});
    case kReadData: {
      // A packet on request is never scaled.
      std::deque<uint8_t> packet;
      make_packet(packet, false);
      packet.push_front(kPs2Acknowledge);
      if (state_.replies.size() + packet.size() > kPs2MaxReplyBytes) return;
      state_.replies.insert(state_.replies.end(), packet.begin(), packet.end());
      packet.pop_front();
      state_.last_sent = packet;
      return;
    }
    case kResetWrapMode:
    case kSetWrapMode:
      state_.wrap = byte == kSetWrapMode;
      return reply({kPs2Acknowledge});
    case kReadDeviceType:
      return reply({kPs2Acknowledge, state_.id});
    case kEnable:
    case kDisable:
      state_.reporting = byte == kEnable;
      state_.motions.clear();
      return reply({kPs2Acknowledge});
    case kSetDefault:
      set_defaults();
      return reply({kPs2Acknowledge});
    case kResend:
      if (state_.replies.size() + state_.last_sent.size() <= kPs2MaxReplyBytes)
        state_.replies.insert(state_.replies.end(), state_.last_sent.begin(),
                              state_.last_sent.end());
      return;
    case kReset:
      set_defaults();
      state_.id = kStandardId;
      state_.wrap = false;
      state_.last_rates = {};
      state_.replies.clear();
      return reply({kPs2Acknowledge, kPs2SelfTestPassed, kStandardId});
    default:
      return reply({kPs2Resend});
  }
}

void Ps2Mouse::parameter(uint8_t command, uint8_t value) {
  if (command == kSetResolution) {
    if (value > kMaxResolution) return reply({kPs2Resend});
    state_.resolution = value;
  } else {
    if (std::ranges::find(kSampleRates, value) == std::end(kSampleRates))
      return reply({kPs2Resend});
    set_sample_rate(value);
  }
  reply({kPs2Acknowledge});
}

// Sets the sample rate. A driver asks for a wheel by a sequence of three rates.
void Ps2Mouse::set_sample_rate(uint8_t rate) {
  if (state_.last_rates == std::array<uint8_t, 2>{200, 100} && rate == 80) state_.id = kWheelId;
  if (state_.last_rates == std::array<uint8_t, 2>{200, 200} && rate == 80) state_.id = kExplorerId;
  state_.last_rates = {state_.last_rates[1], rate};
  state_.sample_rate = rate;
}

void Ps2Mouse::set_defaults() {
  state_.reporting = false;
  state_.remote = false;
  state_.scaling_2_1 = false;
  state_.resolution = kDefaultResolution;
  state_.sample_rate = kDefaultSampleRate;
  state_.motions.clear();
}

void Ps2Mouse::reply(std::initializer_list<uint8_t> bytes) {
  if (state_.replies.size() + bytes.size() > kPs2MaxReplyBytes) return;
  state_.replies.insert(state_.replies.end(), bytes);
  state_.last_sent = bytes;
}

Ps2Mouse::State Ps2Mouse::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

}  // namespace wick::devices
