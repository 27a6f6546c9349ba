// Test fixture: a keyboard controller with a keyboard and a mouse, and a guest's accesses to it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "devices/i8042.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/registers.h"

namespace wick::devices {

using Bytes = std::vector<int>;

class Ps2Test : public testing::Test {
 protected:
  static constexpr uint8_t kOutputFull = 0x01;
  static constexpr uint8_t kInputFull = 0x02;
  static constexpr uint8_t kAuxiliary = 0x20;

  Ps2Test() { controller_.plug(&keyboard_, &mouse_, irq1_, irq12_); }

  uint8_t status() {
    return static_cast<uint8_t>(fakes::read_register(controller_.command_port(), 0, 1));
  }
  uint8_t data() {
    return static_cast<uint8_t>(fakes::read_register(controller_.data_port(), 0, 1));
  }
  void write_command(uint8_t value) {
    fakes::write_register(controller_.command_port(), 0, value, 1);
  }
  void write_data(uint8_t value) { fakes::write_register(controller_.data_port(), 0, value, 1); }

  // Returns the byte of a command's reply; -1 if there is none.
  int ask(uint8_t command) {
    write_command(command);
    return next();
  }
  void set_command_byte(uint8_t value) {
    write_command(0x60);
    write_data(value);
  }
  int next() { return (status() & kOutputFull) != 0 ? data() : -1; }
  // Reads all bytes that wait; those of the mouse have 0x100 added. At most a thousand.
  Bytes read_all() {
    Bytes bytes;
    for (int i = 0; i < 1000; ++i) {
      const uint8_t now = status();
      if ((now & kOutputFull) == 0) break;
      bytes.push_back(data() + ((now & kAuxiliary) != 0 ? 0x100 : 0));
    }
    return bytes;
  }
  // Sends bytes to a device, one after the other, and returns all that comes back.
  Bytes to_keyboard(std::initializer_list<uint8_t> bytes) {
    Bytes all;
    for (const uint8_t byte : bytes) {
      write_data(byte);
      for (const int got : read_all()) all.push_back(got);
    }
    return all;
  }
  Bytes to_mouse(std::initializer_list<uint8_t> bytes) {
    Bytes all;
    for (const uint8_t byte : bytes) {
      write_command(0xd4);
      write_data(byte);
      for (const int got : read_all()) all.push_back(got);
    }
    return all;
  }

  int resets_ = 0;
  int leds_ = -1;
  fakes::CountingLine irq1_, irq12_;
  Ps2Keyboard keyboard_{[this](uint8_t leds) { leds_ = leds; }};
  Ps2Mouse mouse_;
  I8042 controller_{[this] { ++resets_; }};
};

}  // namespace wick::devices
