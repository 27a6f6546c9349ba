// Receives key presses and pointer movements from the viewer of the guest's screen, and passes them
// to the guest's keyboards and pointers.
//
// Thread rule: any thread; an implementation does its own locking and does not block.
#pragma once

#include <cstdint>

namespace wick {

class InputSink {
 public:
  // The right and the lower edge of the screen in move_to(); the left and upper ones are 0.
  static constexpr uint16_t kMaxPosition = 0x7fff;

  virtual ~InputSink() = default;

  // Presses or releases a key or a mouse button: KEY_* or BTN_LEFT, BTN_RIGHT, BTN_MIDDLE of
  // <linux/input-event-codes.h>. A second `down` without a release in between is the repetition of
  // a key that is held.
  virtual void key(uint16_t code, bool down) = 0;
  // Moves the pointer to a place on the screen.
  virtual void move_to(uint16_t x, uint16_t y) = 0;
  // Moves the pointer by some pixels, to the right and down.
  virtual void move_by(int dx, int dy) = 0;
  // Turns the wheel: away from the person if `steps` is positive.
  virtual void scroll(int steps) = 0;
};

}  // namespace wick
