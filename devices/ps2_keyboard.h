// A PS/2 keyboard with 101 keys or more. It has the scan code sets 1 and 2. It refuses set 3, so
// Linux takes it for a keyboard without that set.
//
// Keys wait in a bounded buffer. When the buffer is full, the driver gets the overrun code and
// misses presses, but no release: the releases follow when there is room, so that no key seems to
// be held for ever. The keyboard has no timer: the caller of key() repeats a key that is held, by a
// second `down`. So the keyboard accepts the typematic rate, but does not use it.
//
// Thread rule: any thread calls key() and active(); Ps2Device's calls as documented there; locks
// itself. `on_leds` is called on the vCPU's thread with the controller's lock held, so it must
// neither wait nor call the keyboard or the controller.
//
// Specification: IBM PS/2 Hardware Interface Technical Reference (1990), "Keyboards (101- and
// 102-Key)".
#pragma once

#include <linux/input-event-codes.h>

#include <bitset>
#include <deque>
#include <functional>
#include <optional>
#include <span>

#include "base/mutex.h"
#include "devices/input_device.h"
#include "devices/ps2_device.h"

namespace wick::devices {

class Ps2Keyboard final : public InputDevice, public Ps2Device {
 public:
  // This buffer and the controller's output buffer together hold 16 bytes. If Linux empties the
  // controller and gets more than 16 bytes, it concludes that there is no controller
  // (drivers/input/serio/i8042.c, i8042_flush()).
  static constexpr size_t kBufferBytes = 15;

  struct State {
    bool scanning = true;  // the keyboard sends keys
    uint8_t set = 2;
    uint8_t leds = 0;             // bits of enum Led
    uint8_t typematic = 0x2b;     // delay and rate; 0x2b: 500 ms, 10.9 per second
    uint8_t pending_command = 0;  // the command that waits for its parameter; 0: none
    uint8_t last_sent = 0;        // the byte that kResend repeats
    bool overrun = false;         // the last byte of `keys` is the overrun code
    bool alt_sysrq = false;       // KEY_SYSRQ was pressed with Alt
    std::deque<uint8_t> replies = {};
    std::deque<uint8_t> keys = {};
    std::bitset<256> down = {};  // keys that the driver sees pressed once it has read `keys`
    std::bitset<256> owed = {};  // releases for which there was no room
    bool operator==(const State&) const = default;
  };

  using OnLeds = std::function<void(uint8_t leds)>;
  explicit Ps2Keyboard(OnLeds on_leds = {}) : on_leds_(std::move(on_leds)) {}

  // Overrides of InputDevice.
  bool active() const override;
  void key(uint16_t code, bool down) override;

  // Overrides of Ps2Device.
  void connect(std::function<void()> on_data) override;
  void write(uint8_t byte) override;
  std::optional<uint8_t> read() override;

  State state() const;

 private:
  void command(uint8_t byte) REQUIRES(mutex_);
  void parameter(uint8_t command, uint8_t value) REQUIRES(mutex_);
  void set_leds(uint8_t leds) REQUIRES(mutex_);
  void set_defaults() REQUIRES(mutex_);
  void reply(uint8_t byte) REQUIRES(mutex_);
  bool press(uint16_t code) REQUIRES(mutex_);
  bool release(uint16_t code) REQUIRES(mutex_);
  bool queue(std::span<const uint8_t> set2) REQUIRES(mutex_);
  void pay_releases() REQUIRES(mutex_);

  const OnLeds on_leds_;
  std::function<void()> on_data_;  // set before the first key

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  bool leds_changed_ GUARDED_BY(mutex_) = false;
};

}  // namespace wick::devices
