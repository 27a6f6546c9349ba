// What drivers do with the keyboard controller, its keyboard and its mouse when they start: the
// order of accesses of Linux (i8042, atkbd, psmouse, libps2) and of SeaBIOS (ps2port), written
// down from reading them.
#include <gmock/gmock.h>

#include <array>

#include "tests/devices/ps2_fixture.h"

namespace wick::devices {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class LinuxOnPs2 : public Ps2Test {
 protected:
  // A command to a device, and its reply, as ps2_command() reads it in interrupts: each byte
  // has one.
  Bytes keyboard(std::initializer_list<uint8_t> bytes) {
    const int before = irq1_.pulses();
    Bytes all = to_keyboard(bytes);
    EXPECT_EQ(irq1_.pulses() - before, static_cast<int>(all.size()));
    return all;
  }
  Bytes mouse(std::initializer_list<uint8_t> bytes) {
    const int before = irq12_.pulses();
    Bytes all = to_mouse(bytes);
    EXPECT_EQ(irq12_.pulses() - before, static_cast<int>(all.size()));
    for (int& byte : all) {
      EXPECT_GE(byte, 0x100);
      byte -= 0x100;
    }
    return all;
  }

  // i8042_controller_check() to i8042_setup_kbd(). Returns the command byte.
  uint8_t probe_controller() {
    EXPECT_THAT(read_all(), IsEmpty()) << "i8042_controller_check() flushes";
    EXPECT_EQ(ask(0xaa), 0x55);
    int command_byte = ask(0x20);
    EXPECT_EQ(ask(0x20), command_byte) << "read until two are equal";
    EXPECT_NE(status() & 0x10, 0) << "or Linux warns of a lock";
    EXPECT_NE(command_byte & 0x40, 0) << "else Linux uses the keyboard without translation";
    command_byte = (command_byte | 0x10) & ~0x01;
    set_command_byte(static_cast<uint8_t>(command_byte));

    // i8042_check_aux()
    write_command(0xd3);
    write_data(0x5a);
    EXPECT_EQ(status() & 0x21, 0x21);
    EXPECT_EQ(data(), 0x5a);
    write_command(0xa7);
    EXPECT_EQ(ask(0x20) & 0x20, 0x20);
    write_command(0xa8);
    EXPECT_EQ(ask(0x20) & 0x20, 0);
    command_byte = (command_byte & ~0x20) | 0x02;
    set_command_byte(static_cast<uint8_t>(command_byte));
    const int before = irq12_.pulses();
    write_command(0xd3);
    write_data(0xa5);
    EXPECT_EQ(irq12_.pulses(), before + 1) << "or Linux believes that there is no IRQ 12";
    EXPECT_THAT(read_all(), ElementsAre(0x1a5));
    command_byte = (command_byte | 0x20) & ~0x02;
    set_command_byte(static_cast<uint8_t>(command_byte));

    // i8042_check_mux(): the third byte would be a version if there was a multiplexer.
    for (const uint8_t byte : std::to_array<uint8_t>({0xf0, 0x56, 0xa4})) {
      write_command(0xd3);
      write_data(byte);
      EXPECT_THAT(read_all(), ElementsAre(0x100 + byte));
    }

    command_byte = (command_byte & ~0x30) | 0x03;
    set_command_byte(static_cast<uint8_t>(command_byte));
    return static_cast<uint8_t>(command_byte);
  }
};

TEST_F(LinuxOnPs2, FindsAKeyboard) {
  probe_controller();
  // atkbd_probe() and atkbd_reset_state(), atkbd_activate()
  EXPECT_THAT(keyboard({0xf2}), ElementsAre(0xfa, 0xab, 0x41));
  EXPECT_THAT(keyboard({0xf5}), ElementsAre(0xfa));
  EXPECT_THAT(keyboard({0xed, 0x00}), ElementsAre(0xfa, 0xfa));
  EXPECT_THAT(keyboard({0xf3, 0x00}), ElementsAre(0xfa, 0xfa));
  EXPECT_THAT(keyboard({0xf4}), ElementsAre(0xfa));
  const int before = irq1_.pulses();
  keyboard_.key(KEY_DELETE, true);
  keyboard_.key(KEY_DELETE, false);
  EXPECT_THAT(read_all(), ElementsAre(0xe0, 0x53, 0xe0, 0xd3));
  EXPECT_EQ(irq1_.pulses(), before + 4);
}

TEST_F(LinuxOnPs2, FindsAMouseWithAWheel) {
  probe_controller();
  // psmouse_probe()
  EXPECT_THAT(mouse({0xf2}), ElementsAre(0xfa, 0x00));
  EXPECT_THAT(mouse({0xf5}), ElementsAre(0xfa));
  EXPECT_THAT(mouse({0xff}), ElementsAre(0xfa, 0xaa, 0x00));
  // What asks for touchpads must not find one: synaptics_detect(), ps2pp_init(), genius_detect().
  (void)mouse({0xe8, 0, 0xe8, 0, 0xe8, 0, 0xe8, 0});
  EXPECT_NE(mouse({0xe9}).at(2), 0x47);
  (void)mouse({0xe6, 0xe8, 0, 0xe6, 0xe6, 0xe6});
  EXPECT_EQ(mouse({0xe9}).at(2), 0) << "or it is a Logitech PS/2++";
  EXPECT_THAT(mouse({0xe1}), ElementsAre(0xfe)) << "trackpoint_detect()";
  // im_explorer_detect()
  (void)mouse({0xf3, 200, 0xf3, 100, 0xf3, 80});
  EXPECT_THAT(mouse({0xf2}), ElementsAre(0xfa, 0x03));
  (void)mouse({0xf3, 200, 0xf3, 200, 0xf3, 80});
  EXPECT_THAT(mouse({0xf2}), ElementsAre(0xfa, 0x04));
  // psmouse_initialize() and psmouse_activate()
  EXPECT_THAT(mouse({0xf3, 100, 0xe8, 3, 0xe6, 0xf4}),
              ElementsAre(0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa));
  EXPECT_TRUE(mouse_.active());
  mouse_.move_by(1, 1);
  EXPECT_THAT(read_all(), ElementsAre(0x128, 0x101, 0x1ff, 0x100));
}

class SeaBiosOnPs2 : public Ps2Test {
 protected:
  // A command as SeaBIOS's ps2_command() sends it: both ports off, then one on, without
  // interrupts, and the command byte as before at the end.
  Bytes command(bool mouse, std::initializer_list<uint8_t> bytes) {
    set_command_byte(static_cast<uint8_t>((command_byte_ | 0x30) & ~0x03));
    set_command_byte(static_cast<uint8_t>((command_byte_ | 0x30) & ~0x03 & ~(mouse ? 0x20 : 0x10)));
    Bytes all = mouse ? to_mouse(bytes) : to_keyboard(bytes);
    set_command_byte(command_byte_);
    return all;
  }
  uint8_t command_byte_ = 0x30;
};

TEST_F(SeaBiosOnPs2, FindsAKeyboardThatWorksByInterrupts) {
  EXPECT_THAT(read_all(), IsEmpty()) << "it flushes at most 16 bytes";
  EXPECT_EQ(ask(0xaa), 0x55);
  EXPECT_EQ(ask(0xab), 0x00);
  EXPECT_THAT(command(false, {0xff}), ElementsAre(0xfa, 0xaa));
  EXPECT_THAT(command(false, {0xf5}), ElementsAre(0xfa));
  EXPECT_THAT(command(false, {0xf0, 0x02}), ElementsAre(0xfa, 0xfa));
  command_byte_ = 0x61;  // the mouse is off, translation and IRQ 1 are on
  EXPECT_THAT(command(false, {0xf4}), ElementsAre(0xfa));
  EXPECT_EQ(irq1_.pulses(), 0);
  keyboard_.key(KEY_ESC, true);
  EXPECT_EQ(irq1_.pulses(), 1);
  // The handler of IRQ 1
  EXPECT_EQ(status() & 0x21, 0x01);
  EXPECT_EQ(data(), 0x01);
  write_command(0xae);
  keyboard_.key(KEY_ESC, false);
  EXPECT_EQ(irq1_.pulses(), 2);
  EXPECT_EQ(data(), 0x81);
  // INT 16h, AH=03h and the lights: commands while interrupts are on
  EXPECT_THAT(command(false, {0xed, 0x02}), ElementsAre(0xfa, 0xfa));
  EXPECT_EQ(leds_, kNumLock);
  EXPECT_EQ(irq1_.pulses(), 2);
}

// INT 15h, AH=C2h of boot loaders and DOS drivers.
TEST_F(SeaBiosOnPs2, DrivesAMouse) {
  command_byte_ = 0x61;
  EXPECT_THAT(command(true, {0xff}), ElementsAre(0x1fa, 0x1aa, 0x100));
  EXPECT_THAT(command(true, {0xf3, 100}), ElementsAre(0x1fa, 0x1fa));
  EXPECT_THAT(command(true, {0xe8, 3}), ElementsAre(0x1fa, 0x1fa));
  command_byte_ = 0x43;
  EXPECT_THAT(command(true, {0xf4}), ElementsAre(0x1fa));
  mouse_.key(BTN_LEFT, true);
  EXPECT_EQ(irq12_.pulses(), 1);
  EXPECT_EQ(status() & 0x21, 0x21);
  EXPECT_THAT(read_all(), ElementsAre(0x109, 0x100, 0x100));
  EXPECT_EQ(irq12_.pulses(), 3);
}

}  // namespace
}  // namespace wick::devices
