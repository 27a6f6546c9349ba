#include "display/vnc_input.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "display/keysyms.h"

namespace wick::display {

namespace {

constexpr uint32_t kWheelUp = 1 << 3, kWheelDown = 1 << 4;

constexpr std::pair<uint32_t, uint16_t> kButtons[] = {
    {1 << 0, BTN_LEFT}, {1 << 1, BTN_MIDDLE}, {1 << 2, BTN_RIGHT}};

uint16_t scale(uint32_t pixel, uint32_t pixels) {
  if (pixels < 2) return 0;
  const uint64_t last = pixels - 1;
  return static_cast<uint16_t>(std::min<uint64_t>(pixel, last) * InputSink::kMaxPosition / last);
}

}  // namespace

void VncInput::press(uint16_t code, bool down) {
  // A release without a press by this client would release another client's key.
  if (!down && !held_.test(code)) return;
  held_.set(code, down);
  sink_.key(code, down);
}

void VncInput::key(uint32_t keysym, bool down) {
  if (const auto code = key_of_keysym(keysym)) press(*code, down);
}

void VncInput::extended_key(uint32_t keysym, uint32_t scan_code, bool down) {
  const auto code = key_of_scan_code(scan_code);
  return code ? press(*code, down) : key(keysym, down);
}

void VncInput::pointer(uint32_t buttons, uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
  const uint16_t to_x = scale(x, width), to_y = scale(y, height);
  const uint32_t position = uint32_t{to_y} << 16 | to_x;
  if (std::exchange(position_, position) != position) sink_.move_to(to_x, to_y);
  const uint32_t changed = buttons ^ std::exchange(buttons_, buttons);
  for (const auto& [bit, code] : kButtons) {
    if ((changed & bit) != 0) press(code, (buttons & bit) != 0);
  }
  // A step of the wheel is a press and a release of a button. Only the press scrolls.
  if ((changed & buttons & kWheelUp) != 0) sink_.scroll(1);
  if ((changed & buttons & kWheelDown) != 0) sink_.scroll(-1);
}

void VncInput::release_all() {
  for (size_t code = 0; code < held_.size(); ++code) press(static_cast<uint16_t>(code), false);
  buttons_ = 0;
}

}  // namespace wick::display
