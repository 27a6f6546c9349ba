#include "vmm/seat.h"

#include <linux/input-event-codes.h>

#include <algorithm>

namespace wick::vmm {

namespace {

constexpr int kMaxPosition = InputSink::kMaxPosition;
// Larger than any screen, and small enough that pixel positions fit into an int.
constexpr uint32_t kMaxScreen = 32768;

bool is_button(uint16_t code) { return code >= BTN_MOUSE && code < BTN_JOYSTICK; }

int to_pixel(int position, uint32_t size) {
  return static_cast<int>(static_cast<int64_t>(position) * (size - 1) / kMaxPosition);
}

// Returns the position after a movement by `pixels`, on a screen of `size` pixels.
int moved(int position, int pixels, uint32_t size) {
  const int64_t by = static_cast<int64_t>(pixels) * kMaxPosition / std::max(1u, size - 1);
  return static_cast<int>(std::clamp<int64_t>(position + by, 0, kMaxPosition));
}

}  // namespace

void Seat::set_devices(Devices devices) {
  const MutexLock lock(mutex_);
  devices_ = devices;
  held_.clear();
  position_known_ = false;
}

void Seat::set_screen_size(uint32_t width, uint32_t height) {
  const MutexLock lock(mutex_);
  width_ = std::clamp(width, 1u, kMaxScreen);
  height_ = std::clamp(height, 1u, kMaxScreen);
}

bool Seat::has_keyboard() const {
  const MutexLock lock(mutex_);
  return keyboard() != nullptr;
}

devices::InputDevice* Seat::keyboard() const {
  devices::InputDevice* const better = devices_.virtio_keyboard;
  if (better != nullptr && (better->active() || devices_.ps2_keyboard == nullptr)) return better;
  return devices_.ps2_keyboard;
}

devices::InputDevice* Seat::pointer() const {
  devices::InputDevice* const better = devices_.virtio_tablet;
  if (better != nullptr && (better->active() || devices_.ps2_mouse == nullptr)) return better;
  return devices_.ps2_mouse;
}

void Seat::key(uint16_t code, bool down) {
  if (code >= KEY_CNT) return;
  const MutexLock lock(mutex_);
  const auto holder = held_.find(code);
  if (holder != held_.end()) {
    // The key is held, so this is its release or a repetition.
    devices::InputDevice* const device = holder->second;
    if (!down) held_.erase(holder);
    return device->key(code, down);
  }
  if (!down) return;
  devices::InputDevice* const device = is_button(code) ? pointer() : keyboard();
  if (device == nullptr) return;
  held_.emplace(code, device);
  device->key(code, true);
}

void Seat::move_to(uint16_t x, uint16_t y) {
  const MutexLock lock(mutex_);
  const int to_x = std::min<int>(x, kMaxPosition);
  const int to_y = std::min<int>(y, kMaxPosition);
  // The movement is the difference of two pixel positions, so that rounding errors do not add up.
  const int dx = to_pixel(to_x, width_) - to_pixel(x_, width_);
  const int dy = to_pixel(to_y, height_) - to_pixel(y_, height_);
  const bool known = position_known_;
  x_ = to_x;
  y_ = to_y;
  position_known_ = true;
  devices::InputDevice* const device = pointer();
  if (device == nullptr) return;
  if (device == devices_.virtio_tablet)
    device->move_to(static_cast<uint16_t>(to_x), static_cast<uint16_t>(to_y));
  else if (known && (dx != 0 || dy != 0))
    device->move_by(dx, dy);
}

void Seat::move_by(int dx, int dy) {
  const MutexLock lock(mutex_);
  x_ = moved(x_, dx, width_);
  y_ = moved(y_, dy, height_);
  devices::InputDevice* const device = pointer();
  if (device == nullptr) return;
  if (device == devices_.virtio_tablet)
    device->move_to(static_cast<uint16_t>(x_), static_cast<uint16_t>(y_));
  else
    device->move_by(dx, dy);
}

void Seat::scroll(int steps) {
  const MutexLock lock(mutex_);
  if (devices::InputDevice* const device = pointer()) device->scroll(steps);
}

}  // namespace wick::vmm
