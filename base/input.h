// The keyboards and pointers of a guest, as the host's side uses them: what a person does at the
// guest's screen.
//
// Thread rule: any thread; an implementation locks itself and does not block.
#pragma once

#include <cstdint>

namespace wick {

class InputSink {
 public:
  // The right and the lower edge of the screen in move_to(); the left and upper ones are 0.
  static constexpr uint16_t kMaxPosition = 0x7fff;

  virtual ~InputSink() = default;

  // A key or a mouse button: KEY_* or BTN_LEFT, BTN_RIGHT, BTN_MIDDLE of
  // <linux/input-event-codes.h>. A second `down` without an `up` between them is the repetition of
  // a key that is held.
  virtual void key(uint16_t code, bool down) = 0;
  // Moves the pointer to a place on the screen.
  virtual void move_to(uint16_t x, uint16_t y) = 0;
  // Moves the pointer by some pixels, to the right and down.
  virtual void move_by(int dx, int dy) = 0;
  // Turns the wheel, away from the person if positive.
  virtual void scroll(int steps) = 0;
};

}  // namespace wick
