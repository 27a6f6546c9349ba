// A keyboard or a pointer of the guest, for code that chooses between several of them.
//
// Thread rule: any thread; a device locks itself and does not block.
#pragma once

#include <cstdint>

#include "base/input.h"

namespace wick::devices {

// A device ignores the events that do not concern it: a keyboard ignores positions, a mouse ignores
// keys. A release of a key or button that the guest does not see pressed is ignored, too.
class InputDevice : public InputSink {
 public:
  // Returns true if the guest has a driver that uses the device.
  virtual bool active() const = 0;

  void key(uint16_t code, bool down) override { static_cast<void>(code), static_cast<void>(down); }
  void move_to(uint16_t x, uint16_t y) override { static_cast<void>(x), static_cast<void>(y); }
  void move_by(int dx, int dy) override { static_cast<void>(dx), static_cast<void>(dy); }
  void scroll(int steps) override { static_cast<void>(steps); }
};

// The lights of a keyboard. The bits are those of the PS/2 command that sets the lights.
enum Led : uint8_t {
  kScrollLock = 1 << 0,
  kNumLock = 1 << 1,
  kCapsLock = 1 << 2,
};

}  // namespace wick::devices
