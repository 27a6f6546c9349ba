// A PS/2 mouse with three buttons and, after a driver has asked for it, a wheel: the mouse gets
// identity 3 (IntelliMouse) by the sample rates 200, 100, 80, and 4 (IntelliMouse Explorer) by
// 200, 200, 80.
//
// A packet is made when the controller takes its first byte. What happens until then is merged:
// movements always, and more than kMaxMotions changes of buttons, but never so that the driver
// misses the last state of a button. The sample rate bounds nothing: the driver gets packets as
// fast as it reads them.
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

  // A movement with the same buttons pressed. `x` counts to the right, `y` up, `wheel` towards
  // the person: the directions of the packets.
  struct Motion {
    uint8_t buttons = 0;
    int x = 0, y = 0, wheel = 0;
    bool operator==(const Motion&) const = default;
  };

  struct State {
    uint8_t id = 0;  // 0, 3 or 4
    bool reporting = false;
    bool remote = false;  // packets only on request
    bool wrap = false;    // each byte is sent back
    bool scaling_2_1 = false;
    uint8_t resolution = 2;                  // 4 counts per millimetre; not used
    uint8_t sample_rate = 100;               // per second; not used
    std::array<uint8_t, 2> last_rates = {};  // that the driver has set, the older one first
    uint8_t pending_command = 0;             // the command that waits for its parameter; 0: none
    uint8_t buttons = 0;                     // as they are; bits of the packet's first byte
    uint8_t sent_buttons = 0;                // as the last packet had them
    std::deque<Motion> motions = {};         // that wait to be sent
    std::deque<uint8_t> replies = {};
    std::deque<uint8_t> packet = {};     // the rest of the packet that is being sent
    std::deque<uint8_t> last_sent = {};  // the last reply or packet, for kResend
    bool operator==(const State&) const = default;
  };

  // InputDevice. key() takes BTN_LEFT, BTN_RIGHT and BTN_MIDDLE.
  bool active() const override;
  void key(uint16_t code, bool down) override;
  void move_by(int dx, int dy) override;
  void scroll(int steps) override;

  // Ps2Device
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
