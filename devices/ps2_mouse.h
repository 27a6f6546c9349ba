// A PS/2 mouse with three buttons and, after a driver has asked for it, a wheel. A driver asks by
// three sample rates in a row: after 200, 100, 80 the mouse has the identity 3 (IntelliMouse),
// after 200, 200, 80 the identity 4 (IntelliMouse Explorer).
//
// A packet is made when the controller takes its first byte. Movements until then are merged.
// Changes of buttons are merged only if more than kMaxMotions of them wait, and the driver always
// gets the last state of a button. The sample rate limits nothing: the driver gets packets as fast
// as it reads them.
//
// Thread rule: any thread calls InputDevice's functions; Ps2Device's calls as documented there;
// locks itself.
//
// Specification: IBM PS/2 Hardware Interface Technical Reference (1990), "Mouse"; Microsoft,
// "Intellimouse Wheel Mouse Extension", for the fourth byte.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <initializer_list>
#include <optional>

#include "base/mutex.h"
#include "devices/input_device.h"
#include "devices/ps2_device.h"

namespace wick::devices {

class Ps2Mouse final : public InputDevice, public Ps2Device {
 public:
  static constexpr size_t kMaxMotions = 16;
  static constexpr size_t kMaxPacketBytes = 4;

  // A movement during which the buttons do not change. The directions are those of the packets: `x`
  // counts to the right, `y` up, `wheel` towards the user.
  struct Motion {
    uint8_t buttons = 0;
    int x = 0, y = 0, wheel = 0;
    bool operator==(const Motion&) const = default;
  };

  struct State {
    uint8_t id = 0;  // 0, 3 or 4
    bool reporting = false;
    bool remote = false;  // the mouse sends packets only on request
    bool wrap = false;    // the mouse sends each byte back
    bool scaling_2_1 = false;
    uint8_t resolution = 2;                  // 4 counts per millimetre; not used
    uint8_t sample_rate = 100;               // per second; not used
    std::array<uint8_t, 2> last_rates = {};  // the last two that the driver set, older first
    uint8_t pending_command = 0;             // the command that waits for its parameter; 0: none
    uint8_t buttons = 0;                     // pressed now; bits of the packet's first byte
    uint8_t sent_buttons = 0;                // pressed in the last packet
    std::deque<Motion> motions = {};         // motions that wait to be sent
    std::deque<uint8_t> replies = {};
    std::deque<uint8_t> packet = {};     // the rest of the packet that is being sent
    std::deque<uint8_t> last_sent = {};  // the last reply or packet, which kResend repeats
    bool operator==(const State&) const = default;
  };

  // Overrides of InputDevice. key() takes BTN_LEFT, BTN_RIGHT and BTN_MIDDLE.
  bool active() const override;
  void key(uint16_t code, bool down) override;
  void move_by(int dx, int dy) override;
  void scroll(int steps) override;

  // Overrides of Ps2Device.
  void connect(std::function<void()> on_data) override;
  void write(uint8_t byte) override;
  std::optional<uint8_t> read() override;

  State state() const;

 private:
  uint8_t status() const REQUIRES(mutex_);
  void command(uint8_t byte) REQUIRES(mutex_);
  void parameter(uint8_t command, uint8_t value) REQUIRES(mutex_);
  void set_sample_rate(uint8_t rate) REQUIRES(mutex_);
  void set_defaults() REQUIRES(mutex_);
  void reply(std::initializer_list<uint8_t> bytes) REQUIRES(mutex_);
  bool add(const Motion& motion) REQUIRES(mutex_);
  void make_packet(std::deque<uint8_t>& packet, bool scaled) REQUIRES(mutex_);
  void drop_packet() REQUIRES(mutex_);

  std::function<void()> on_data_;  // set before the first movement

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
};

}  // namespace wick::devices
