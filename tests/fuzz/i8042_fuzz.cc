// A guest and a host that do anything to the keyboard controller, its keyboard and its mouse.
// After each step: nothing has grown beyond its bound; the lines are those of the byte that
// waits. At the end a driver that resets all finds devices that work, and no key that is held.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "devices/i8042.h"
#include "devices/port92.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/registers.h"
#include "tests/fuzz/harness.h"

namespace {

using wick::devices::I8042;
using wick::devices::Ps2Keyboard;
using wick::devices::Ps2Mouse;
using wick::fakes::read_register;
using wick::fakes::write_register;
using wick::fuzz::require;

class Bench {
 public:
  explicit Bench(bool mouse) {
    controller_.plug(&keyboard_, mouse ? &mouse_ : nullptr, irq1_, irq12_);
  }

  void step(uint8_t action, uint8_t value) {
    switch (action & 15) {
      case 0:
      case 1:
      case 2:
        write_register(controller_.data_port(), 0, value, 1);
        break;
      case 3:
      case 4:
        write_register(controller_.command_port(), 0, value, 1);
        break;
      case 5:
        write_register(controller_.command_port(), 0, 0xd4, 1);
        write_register(controller_.data_port(), 0, value, 1);
        break;
      case 6:
      case 7:
        (void)read();
        break;
      case 8:
        for (int i = 0; i < value; ++i) (void)read();
        break;
      case 9:
      case 10:
        keyboard_.key(value, (action & 16) != 0);
        break;
      case 11:
        mouse_.key(static_cast<uint16_t>(0x110 + value % 4), (action & 16) != 0);
        break;
      case 12:
        mouse_.move_by(static_cast<int8_t>(value) * 1000, static_cast<int8_t>(action) * 20);
        break;
      case 13:
        mouse_.scroll(static_cast<int8_t>(value));
        break;
      case 14:
        write_register(port92_, 0, value, 1);
        break;
      default:
        for (int i = 0; i < value; ++i) keyboard_.key(static_cast<uint16_t>(i), (action & 16) != 0);
        break;
    }
    check();
  }

  void finish(bool mouse) {
    write(0x60, 0x04);
    for (int i = 0; i < 20'000 && waits(); ++i) (void)read();
    require(!waits());
    write_register(controller_.data_port(), 0, 0xff, 1);
    require(read() == 0xfa && read() == 0xaa);
    require(keyboard_.state().down.none() && keyboard_.state().owed.none());
    keyboard_.key(30, true);
    require(read() == 0x1c);
    if (!mouse) return;
    write(0xd4, 0xff);
    require(read() == 0xfa && read() == 0xaa && read() == 0x00);
    require(!waits());
  }

 private:
  bool waits() { return (read_register(controller_.command_port(), 0, 1) & 1) != 0; }
  uint64_t read() { return read_register(controller_.data_port(), 0, 1); }
  void write(uint8_t command, uint8_t value) {
    write_register(controller_.command_port(), 0, command, 1);
    write_register(controller_.data_port(), 0, value, 1);
  }

  void check() {
    const I8042::State chip = controller_.state();
    require(chip.replies.size() <= I8042::kMaxReplies);
    require(chip.output_full || chip.replies.empty());
    const bool mouse = chip.output_source == I8042::Source::kMouse;
    require(chip.keyboard_line ==
            (chip.output_full && !mouse && (chip.command_byte & 0x11) == 0x01));
    require(chip.mouse_line == (chip.output_full && mouse && (chip.command_byte & 0x02) != 0));
    const Ps2Keyboard::State keys = keyboard_.state();
    require(keys.keys.size() <= Ps2Keyboard::kBufferBytes);
    require(keys.replies.size() <= wick::devices::kPs2MaxReplyBytes);
    require((keys.owed & ~keys.down).none());
    require(keys.overrun || keys.owed.none());
    const Ps2Mouse::State moves = mouse_.state();
    require(moves.motions.size() <= Ps2Mouse::kMaxMotions);
    require(moves.replies.size() <= wick::devices::kPs2MaxReplyBytes);
    require(moves.packet.size() <= Ps2Mouse::kMaxPacketBytes);
  }

  wick::fakes::CountingLine irq1_, irq12_;
  Ps2Keyboard keyboard_;
  Ps2Mouse mouse_;
  I8042 controller_{[] {}};
  wick::devices::Port92 port92_{[] {}};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool mouse = (data[0] & 1) == 0;
  Bench bench(mouse);
  for (size_t i = 1; i + 1 < size; i += 2) bench.step(data[i], data[i + 1]);
  bench.finish(mouse);
  return 0;
}
