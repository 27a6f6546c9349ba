// The place of a person at the guest's screen: passes keys and pointers to those of the guest's
// devices that its driver uses.
//
// Keys go to the virtio keyboard while a driver uses it, else to the PS/2 keyboard; the pointer
// goes to the virtio tablet or the PS/2 mouse in the same way. A PS/2 mouse has no positions, so
// it gets the difference to the last one, in pixels. A release goes to the device that got the
// press.
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
  // nullptr: the machine has no such device.
  struct Devices {
    devices::InputDevice* ps2_keyboard = nullptr;
    devices::InputDevice* ps2_mouse = nullptr;
    devices::InputDevice* virtio_keyboard = nullptr;
    devices::InputDevice* virtio_tablet = nullptr;
  };

  Seat() = default;
  explicit Seat(Devices devices) : devices_(devices) {}

  // Replaces the devices, when the board is built anew at a reset. The former ones are not
  // called after the return. Keys that are held are forgotten.
  void set_devices(Devices devices);
  // The size of the guest's screen in pixels.
  void set_screen_size(uint32_t width, uint32_t height);
  // The machine has a keyboard. (Its driver need not be active.)
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
  // Which device got the press of a key or button that is held.
  std::map<uint16_t, devices::InputDevice*> held_ GUARDED_BY(mutex_);
};

}  // namespace wick::vmm
