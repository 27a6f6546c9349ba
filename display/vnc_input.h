// Passes the key presses and pointer events of one VNC client to the guest's input devices.
//
// Thread rule: one thread at a time.
// Specification: RFC 6143, 7.5.4 and 7.5.5; keysyms.h.
#pragma once

#include <linux/input-event-codes.h>

#include <bitset>
#include <cstdint>

#include "base/input.h"

namespace wick::display {

class VncInput {
 public:
  explicit VncInput(InputSink& sink) : sink_(sink) {}

  void key(uint32_t keysym, bool down);
  // The scan code decides; the keysym is used only if no key has the scan code.
  void extended_key(uint32_t keysym, uint32_t scan_code, bool down);
  // `buttons` is the mask of the PointerEvent message. `x` and `y` are pixels of a screen of
  // `width` x `height`; a position outside of the screen is moved to the screen's edge.
  void pointer(uint32_t buttons, uint32_t x, uint32_t y, uint32_t width, uint32_t height);
  // Releases the keys and buttons that the client holds, because the client is gone.
  void release_all();

 private:
  void press(uint16_t code, bool down);

  InputSink& sink_;
  std::bitset<KEY_CNT> held_;       // keys and mouse buttons
  uint32_t buttons_ = 0;            // the mask of the last message
  uint32_t position_ = UINT32_MAX;  // y << 16 | x of the last move_to()
};

}  // namespace wick::display
