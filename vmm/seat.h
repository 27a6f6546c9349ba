// Passes key presses and pointer events from the viewer of the screen to the guest's input devices.
//
// Keys go to the virtio keyboard while a driver uses it, else to the PS/2 keyboard. Pointer events
// go to the virtio tablet while a driver uses it, else to the PS/2 mouse. A PS/2 mouse reports only
// relative motion, so it gets the difference from the last position, in pixels. A release goes to
// the device that got the press.
//
// Thread rule: any thread; locks itself. The lock is held when a device is called, so a device
// must not call back.
#pragma once

#include <cstdint>
#include <map>

#include "base/mutex.h"
#include "devices/input_device.h"

namespace wick::vmm {

class Seat final : public InputSink {
 public:
  // A device is nullptr if the machine does not have it.
  struct Devices {
    devices::InputDevice* ps2_keyboard = nullptr;
    devices::InputDevice* ps2_mouse = nullptr;
    devices::InputDevice* virtio_keyboard = nullptr;
    devices::InputDevice* virtio_tablet = nullptr;
  };

  Seat() = default;
  explicit Seat(Devices devices) : devices_(devices) {}

  // Replaces the devices, because a reset builds a new board. The old devices are not called after
  // the return. Held keys are forgotten.
  void set_devices(Devices devices);
  // Sets the size of the guest's screen in pixels.
  void set_screen_size(uint32_t width, uint32_t height);
  // Returns whether the machine has a keyboard, even if no driver uses it.
  bool has_keyboard() const;

  // InputSink
  void key(uint16_t code, bool down) override;
  void move_to(uint16_t x, uint16_t y) override;
  void move_by(int dx, int dy) override;
  void scroll(int steps) override;

 private:
  devices::InputDevice* keyboard() const REQUIRES(mutex_);
  devices::InputDevice* pointer() const REQUIRES(mutex_);

  mutable Mutex mutex_;
  Devices devices_ GUARDED_BY(mutex_);
  uint32_t width_ GUARDED_BY(mutex_) = 640;
  uint32_t height_ GUARDED_BY(mutex_) = 480;
  // The last position, in InputSink's units.
  int x_ GUARDED_BY(mutex_) = 0;
  int y_ GUARDED_BY(mutex_) = 0;
  bool position_known_ GUARDED_BY(mutex_) = false;
  // For each key and button that is held, the device that got the press.
  std::map<uint16_t, devices::InputDevice*> held_ GUARDED_BY(mutex_);
};

}  // namespace wick::vmm
