#include "devices/ps2_keyboard.h"

#include <array>
#include <utility>

#include "devices/ps2_scan_codes.h"

namespace wick::devices {

namespace {

constexpr uint8_t kSetLeds = 0xed;
constexpr uint8_t kEcho = 0xee;
constexpr uint8_t kSelectSet = 0xf0;
constexpr uint8_t kReadId = 0xf2;
constexpr uint8_t kSetTypematic = 0xf3;
constexpr uint8_t kEnable = 0xf4;
constexpr uint8_t kDefaultDisable = 0xf5;
constexpr uint8_t kSetDefault = 0xf6;
constexpr uint8_t kFirstOfSet3 = 0xf7;  // 0xf7 to 0xfd set the types of keys in set 3
constexpr uint8_t kLastOfSet3 = 0xfd;
constexpr uint8_t kResend = 0xfe;
constexpr uint8_t kReset = 0xff;

constexpr uint8_t kFirstCommand = kSetLeds;  // the parameters of commands are smaller
constexpr uint8_t kAllLeds = kScrollLock | kNumLock | kCapsLock;
constexpr uint8_t kDefaultTypematic = 0x2b;
constexpr std::array<uint8_t, 2> kId = {0xab, 0x83};
constexpr uint8_t kOverrun = 0x00;  // in set 2; to_set1() makes it 0xff
constexpr uint8_t kAltSysRq = 0x84;

// The bytes for one key event in set 2; at most 8.
class Sequence {
 public:
  void add(uint8_t byte) { bytes_[size_++] = byte; }
  void make(uint16_t code) { add(code, false); }
  void release(uint16_t code) { add(code, true); }
  std::span<const uint8_t> bytes() const { return std::span(bytes_).first(size_); }

 private:
  void add(uint16_t code, bool released) {
    if (code >> 8 != 0) add(static_cast<uint8_t>(code >> 8));
    if (released) add(kScanBreak);
    add(static_cast<uint8_t>(code));
  }
  std::array<uint8_t, 8> bytes_{};
  size_t size_ = 0;
};

// Returns false for the Korean keys and Pause, which have no break code.
bool has_break(uint16_t key) { return key != KEY_HANGEUL && key != KEY_HANJA && key != KEY_PAUSE; }

}  // namespace

bool Ps2Keyboard::active() const {
  const MutexLock lock(mutex_);
  return state_.scanning;
}

void Ps2Keyboard::key(uint16_t code, bool down) {
  if (code >= 256 || (set2_code(code) == 0 && code != KEY_SYSRQ && code != KEY_PAUSE)) return;
  {
    const MutexLock lock(mutex_);
    if (!state_.scanning) return;
    if (!(down ? press(code) : release(code))) return;
  }
  if (on_data_) on_data_();
}

// press() and release() return true if they queued a sequence.
bool Ps2Keyboard::press(uint16_t code) {
  // The driver did not see the release, so this is the repetition of a key that is held.
  state_.owed.reset(code);
  const bool alt = state_.down.test(KEY_LEFTALT) || state_.down.test(KEY_RIGHTALT);
  const bool control = state_.down.test(KEY_LEFTCTRL) || state_.down.test(KEY_RIGHTCTRL);
  const bool shift = state_.down.test(KEY_LEFTSHIFT) || state_.down.test(KEY_RIGHTSHIFT);
  Sequence sequence;
  if (code == KEY_SYSRQ) {
    if (!state_.down.test(code)) state_.alt_sysrq = alt;
    if (state_.alt_sysrq) {
      sequence.make(kAltSysRq);
    } else {
      if (!control && !shift) sequence.make(0xe012);
      sequence.make(0xe07c);
    }
  } else if (code == KEY_PAUSE) {
    if (control) {
      sequence.make(0xe07e);
      sequence.release(0xe07e);
    } else {
      sequence.add(kScanPause);
      sequence.make(0x14);
      sequence.make(0x77);
      sequence.add(kScanPause);
      sequence.release(0x14);
      sequence.release(0x77);
    }
  } else {
    sequence.make(set2_code(code));
  }
  if (!queue(sequence.bytes())) return false;
  if (has_break(code)) state_.down.set(code);
  return true;
}

bool Ps2Keyboard::release(uint16_t code) {
  if (!state_.down.test(code)) return false;
  const bool control = state_.down.test(KEY_LEFTCTRL) || state_.down.test(KEY_RIGHTCTRL);
  const bool shift = state_.down.test(KEY_LEFTSHIFT) || state_.down.test(KEY_RIGHTSHIFT);
  Sequence sequence;
  if (code == KEY_SYSRQ) {
    if (state_.alt_sysrq) {
      sequence.release(kAltSysRq);
    } else {
      sequence.release(0xe07c);
      if (!control && !shift) sequence.release(0xe012);
    }
  } else {
    sequence.release(set2_code(code));
  }
  const bool queued = queue(sequence.bytes());
  state_.down.set(code, !queued);
  state_.owed.set(code, !queued);
  return queued;
}

// Queues a whole sequence and returns true. Without room for it, queues the overrun code, once, and
// returns false. The last place is kept for the overrun code.
bool Ps2Keyboard::queue(std::span<const uint8_t> set2) {
  if (state_.overrun || state_.keys.size() + set2.size() >= kBufferBytes) {
    if (!state_.overrun) state_.keys.push_back(state_.set == 1 ? to_set1(kOverrun) : kOverrun);
    state_.overrun = true;
    return false;
  }
  bool released = false;
  for (const uint8_t byte : set2) {
    if (state_.set == 2) {
      state_.keys.push_back(byte);
    } else if (byte == kScanBreak) {
      released = true;
    } else if (byte == kScanExtended || byte == kScanPause) {
      state_.keys.push_back(byte);
    } else {
      state_.keys.push_back(static_cast<uint8_t>(to_set1(byte) | (released ? 0x80 : 0)));
      released = false;
    }
  }
  return true;
}

// Queues the releases that are owed after an overrun, as soon as the driver has read the buffer to
// its end.
void Ps2Keyboard::pay_releases() {
  if (!state_.overrun || !state_.keys.empty()) return;
  state_.overrun = false;
  for (uint16_t code = 0; code < state_.owed.size() && state_.owed.any(); ++code) {
    // The buffer is full again; the other releases follow when the driver has read it.
    if (state_.owed.test(code) && !release(code)) return;
  }
}

void Ps2Keyboard::connect(std::function<void()> on_data) { on_data_ = std::move(on_data); }

std::optional<uint8_t> Ps2Keyboard::read() {
  const MutexLock lock(mutex_);
  // Replies go before keys, because the driver waits for a reply.
  auto& from = state_.replies.empty() ? state_.keys : state_.replies;
  if (from.empty()) return std::nullopt;
  state_.last_sent = from.front();
  from.pop_front();
  pay_releases();
  return state_.last_sent;
}

void Ps2Keyboard::write(uint8_t byte) {
  uint8_t leds = 0;
  {
    const MutexLock lock(mutex_);
    const uint8_t pending = std::exchange(state_.pending_command, uint8_t{0});
    if (pending != 0 && byte < kFirstCommand)
      parameter(pending, byte);
    else
      command(byte);
    leds = state_.leds;
    if (!std::exchange(leds_changed_, false)) return;
  }
  if (on_leds_) on_leds_(leds);
}

void Ps2Keyboard::command(uint8_t byte) {
  switch (byte) {
    case kSetLeds:
    case kSelectSet:
    case kSetTypematic:
      state_.pending_command = byte;
      return reply(kPs2Acknowledge);
    case kEcho:
      return reply(kEcho);
    case kReadId:
      reply(kPs2Acknowledge);
      for (const uint8_t id : kId) reply(id);
      return;
    case kEnable:
      state_.scanning = true;
      return reply(kPs2Acknowledge);
    case kDefaultDisable:
    case kSetDefault:
      set_defaults();
      state_.scanning = byte == kSetDefault;
      return reply(kPs2Acknowledge);
    case kResend:
      return reply(state_.last_sent);
    case kReset:
      set_defaults();
      set_leds(0);
      state_.replies.clear();
      reply(kPs2Acknowledge);
      return reply(kPs2SelfTestPassed);
    default:
      // The commands for set 3 have nothing to change.
      return reply(byte >= kFirstOfSet3 && byte <= kLastOfSet3 ? kPs2Acknowledge : kPs2Resend);
  }
}

void Ps2Keyboard::parameter(uint8_t command, uint8_t value) {
  switch (command) {
    case kSetLeds:
      set_leds(value & kAllLeds);
      return reply(kPs2Acknowledge);
    case kSetTypematic:
      if (value >= 0x80) return reply(kPs2Resend);
      state_.typematic = value;
      return reply(kPs2Acknowledge);
    default:  // the command is kSelectSet
      if (value > 2) return reply(kPs2Resend);
      reply(kPs2Acknowledge);
      if (value == 0) return reply(state_.set);
      state_.set = value;
      state_.keys.clear();
      state_.overrun = false;
      // Forget the keys that are down: no release is sent in the new set for a key that was pressed
      // in the old one.
      state_.down.reset();
      state_.owed.reset();
  }
}

void Ps2Keyboard::set_leds(uint8_t leds) {
  if (std::exchange(state_.leds, leds) != leds) leds_changed_ = true;
}

void Ps2Keyboard::set_defaults() {
  state_.scanning = true;
  state_.set = 2;
  state_.typematic = kDefaultTypematic;
  state_.keys.clear();
  state_.overrun = false;
  state_.alt_sysrq = false;
  state_.down.reset();
  state_.owed.reset();
}

void Ps2Keyboard::reply(uint8_t byte) {
  if (state_.replies.size() < kPs2MaxReplyBytes) state_.replies.push_back(byte);
}

Ps2Keyboard::State Ps2Keyboard::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

}  // namespace wick::devices
