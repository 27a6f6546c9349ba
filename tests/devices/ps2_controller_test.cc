// The keyboard controller with devices; i8042_test.cc has it without.
#include <gmock/gmock.h>

#include <thread>

#include "tests/devices/ps2_fixture.h"

namespace wick::devices {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Ps2Controller : public Ps2Test {
 protected:
  // Translation off, both ports on, no interrupts.
  Ps2Controller() { set_command_byte(0x04); }
};

TEST_F(Ps2Controller, PassesItsTests) {
  EXPECT_EQ(ask(0xaa), 0x55);
  EXPECT_EQ(ask(0xab), 0x00);
  EXPECT_EQ(ask(0xa9), 0x00);
}

TEST_F(Ps2Controller, KeepsTheCommandByteAndItsRam) {
  set_command_byte(0x47);
  EXPECT_EQ(ask(0x20), 0x47);
  for (uint8_t i = 1; i < 32; ++i) {
    write_command(static_cast<uint8_t>(0x60 + i));
    write_data(static_cast<uint8_t>(3 * i));
  }
  for (uint8_t i = 1; i < 32; ++i) EXPECT_EQ(ask(static_cast<uint8_t>(0x20 + i)), 3 * i);
  EXPECT_EQ(ask(0x20), 0x47) << "it is not a part of the RAM";
}

TEST_F(Ps2Controller, ShowsTheSystemFlagOfTheCommandByte) {
  set_command_byte(0x40);
  EXPECT_EQ(status() & 0x04, 0);
  EXPECT_EQ(ask(0xaa), 0x55);
  EXPECT_EQ(status() & 0x04, 0x04) << "the self test sets it";
  EXPECT_EQ(ask(0x20), 0x44);
}

TEST_F(Ps2Controller, TellsCommandsFromDataAndIsNeverBusy) {
  write_command(0xae);
  EXPECT_EQ(status() & 0x0a, 0x08);
  write_data(0xee);
  EXPECT_EQ(status() & 0x0a, 0x00);
}

TEST_F(Ps2Controller, KeepsTheA20Gate) {
  EXPECT_EQ(ask(0xd0) & 0x03, 0x03);
  write_command(0xd1);
  write_data(0xdd);
  EXPECT_EQ(ask(0xd0) & 0x02, 0);
  write_command(0xdf);
  EXPECT_EQ(ask(0xd0) & 0x02, 0x02);
  write_command(0xdd);
  EXPECT_EQ(ask(0xd0) & 0x02, 0);
  EXPECT_EQ(resets_, 0);
}

TEST_F(Ps2Controller, ShowsInTheOutputPortWhoseByteWaits) {
  keyboard_.key(KEY_A, true);
  write_command(0xd0);
  EXPECT_EQ(data(), 0x1c) << "the port was read before this byte was";
  EXPECT_EQ(data() & 0x30, 0x10);
}

TEST_F(Ps2Controller, ResetsByItsOutputPort) {
  write_command(0xfe);
  EXPECT_EQ(resets_, 1);
  write_command(0xd1);
  write_data(0xfe);
  EXPECT_EQ(resets_, 2);
}

TEST_F(Ps2Controller, LoopsBytesBackAsThoseOfTheirPort) {
  write_command(0xd3);
  write_data(0x5a);
  EXPECT_EQ(status() & (kOutputFull | kAuxiliary), kOutputFull | kAuxiliary);
  EXPECT_EQ(data(), 0x5a);
  write_command(0xd2);
  write_data(0x1c);
  EXPECT_EQ(status() & (kOutputFull | kAuxiliary), kOutputFull);
  EXPECT_EQ(data(), 0x1c) << "not translated";
}

TEST_F(Ps2Controller, MarksTheBytesOfTheMouse) {
  EXPECT_THAT(to_mouse({0xf2}), ElementsAre(0x1fa, 0x100));
  EXPECT_THAT(to_keyboard({0xee}), ElementsAre(0xee));
}

TEST_F(Ps2Controller, NoByteOvertakesAnother) {
  keyboard_.key(KEY_A, true);  // in the output buffer
  write_command(0xaa);
  write_command(0x20);
  EXPECT_THAT(read_all(), ElementsAre(0x1c, 0x55, 0x04));
}

TEST_F(Ps2Controller, BoundsTheRepliesThatNobodyReads) {
  for (int i = 0; i < 1000; ++i) write_command(0x20);
  EXPECT_EQ(read_all().size(), 1 + I8042::kMaxReplies);
  EXPECT_EQ(ask(0xaa), 0x55) << "and goes on";
}

TEST_F(Ps2Controller, SendsAnEdgeForEachByte) {
  set_command_byte(0x07);
  keyboard_.key(KEY_UP, true);  // e0 75
  EXPECT_EQ(irq1_.pulses(), 1) << "the second byte waits for the first one";
  EXPECT_EQ(data(), 0xe0);
  EXPECT_EQ(irq1_.pulses(), 2);
  EXPECT_EQ(data(), 0x75);
  EXPECT_EQ(irq1_.pulses(), 2);
  EXPECT_EQ(irq12_.pulses(), 0);
  EXPECT_THAT(to_mouse({0xf4}), ElementsAre(0x1fa));
  EXPECT_EQ(irq12_.pulses(), 1);
  mouse_.move_by(1, 0);
  EXPECT_EQ(irq12_.pulses(), 2);
  EXPECT_EQ(read_all().size(), 3u);
  EXPECT_EQ(irq12_.pulses(), 4);
  EXPECT_EQ(irq1_.pulses(), 2);
}

TEST_F(Ps2Controller, SendsNoInterruptThatIsNotEnabled) {
  keyboard_.key(KEY_A, true);
  EXPECT_THAT(to_mouse({0xf2}), ElementsAre(0x1c, 0x1fa, 0x100));
  EXPECT_EQ(irq1_.pulses() + irq12_.pulses(), 0);
}

TEST_F(Ps2Controller, SendsTheInterruptOfAByteThatWaitsWhenItIsEnabled) {
  keyboard_.key(KEY_A, true);
  set_command_byte(0x05);
  EXPECT_EQ(irq1_.pulses(), 1);
  set_command_byte(0x05);
  EXPECT_EQ(irq1_.pulses(), 1) << "the line is high";
  EXPECT_EQ(data(), 0x1c);
}

TEST_F(Ps2Controller, TheReplyToAGuestThatDisabledTheKeyboardComesWithoutInterrupt) {
  set_command_byte(0x45);
  write_command(0xad);
  EXPECT_EQ(ask(0x20), 0x55);
  EXPECT_EQ(irq1_.pulses(), 0);
}

TEST_F(Ps2Controller, ADisabledPortKeepsItsBytes) {
  write_command(0xad);
  write_command(0xa7);
  keyboard_.key(KEY_A, true);
  EXPECT_EQ(next(), -1);
  write_command(0xae);
  EXPECT_EQ(next(), 0x1c);
  write_command(0xd4);
  write_data(0xf4);
  EXPECT_EQ(next(), 0xfa);
  EXPECT_EQ(ask(0x20) & 0x20, 0) << "a byte for the mouse enables its port";
  write_command(0xa7);
  mouse_.move_by(1, 0);
  EXPECT_EQ(next(), -1);
  write_command(0xa8);
  EXPECT_THAT(read_all(), ElementsAre(0x108, 0x101, 0x100));
}

TEST_F(Ps2Controller, AByteForTheKeyboardEnablesItsPort) {
  write_command(0xad);
  EXPECT_THAT(to_keyboard({0xf4}), ElementsAre(0xfa));
  EXPECT_EQ(ask(0x20) & 0x10, 0);
}

TEST_F(Ps2Controller, TranslatesSet2ToSet1) {
  set_command_byte(0x44);
  keyboard_.key(KEY_A, true);
  keyboard_.key(KEY_A, false);
  keyboard_.key(KEY_UP, true);
  keyboard_.key(KEY_UP, false);
  keyboard_.key(KEY_F7, true);
  keyboard_.key(KEY_F7, false);
  EXPECT_THAT(read_all(), ElementsAre(0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8, 0x41, 0xc1));
  keyboard_.key(KEY_PAUSE, true);
  EXPECT_THAT(read_all(), ElementsAre(0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5));
  EXPECT_THAT(to_keyboard({0xf2}), ElementsAre(0xfa, 0xab, 0x41)) << "as each PC does";
}

// A command between the bytes of a sequence, each of which the guest reads alone.
TEST_F(Ps2Controller, ATranslatedReleaseStaysOneAroundACommand) {
  set_command_byte(0x44);
  keyboard_.key(KEY_UP, true);
  keyboard_.key(KEY_UP, false);
  EXPECT_EQ(data(), 0xe0);
  EXPECT_EQ(data(), 0x48);
  write_data(0xee);
  EXPECT_EQ(data(), 0xe0);
  EXPECT_EQ(data(), 0xee);
  EXPECT_EQ(data(), 0xc8);
}

TEST_F(Ps2Controller, WithoutAMouseHasNoAuxiliaryPort) {
  Ps2Keyboard keyboard;
  I8042 controller([] {});
  controller.plug(&keyboard, nullptr, irq1_, irq12_);
  const auto ask_other = [&](uint8_t command) {
    fakes::write_register(controller.command_port(), 0, command, 1);
    return fakes::read_register(controller.data_port(), 0, 1);
  };
  EXPECT_EQ(ask_other(0xab), 0u);
  EXPECT_EQ(ask_other(0xa9), 1u);
  fakes::write_register(controller.command_port(), 0, 0xd3, 1);
  fakes::write_register(controller.data_port(), 0, 0x5a, 1);
  EXPECT_EQ(fakes::read_register(controller.command_port(), 0, 1) & 0x21, 0x01u);
  EXPECT_EQ(fakes::read_register(controller.data_port(), 0, 1), 0x5au);
  fakes::write_register(controller.command_port(), 0, 0xd4, 1);
  fakes::write_register(controller.data_port(), 0, 0xf2, 1);
  EXPECT_EQ(fakes::read_register(controller.command_port(), 0, 1) & 0x01, 0u);
}

TEST_F(Ps2Controller, DevicesOutliveIt) {
  Ps2Keyboard keyboard;
  {
    I8042 controller([] {});
    controller.plug(&keyboard, nullptr, irq1_, irq12_);
  }
  keyboard.key(KEY_A, true);
  EXPECT_EQ(keyboard.read(), 0x1c) << "the key waits for the next controller";
}

TEST_F(Ps2Controller, TakesKeysWhileTheGuestReads) {
  constexpr int kKeys = 2000;
  set_command_byte(0x47);
  std::jthread host([&] {
    for (int i = 0; i < kKeys; ++i) {
      keyboard_.key(KEY_A, true);
      mouse_.move_by(1, 1);
      keyboard_.key(KEY_A, false);
    }
  });
  for (int i = 0; i < kKeys; ++i) {
    (void)read_all();
    (void)to_mouse({0xf4});
    (void)to_keyboard({0xed, 0x07});
  }
  host.join();
  (void)read_all();
  EXPECT_TRUE(keyboard_.state().down.none()) << "no release is lost";
}

TEST_F(Ps2Controller, SurvivesEveryCommandWithEveryWidth) {
  set_command_byte(0x47);
  for (int command = 0; command < 256; ++command) {
    for (const size_t width : fakes::kWidths) {
      fakes::write_register(controller_.command_port(), 0, static_cast<uint64_t>(command), width);
      fakes::write_register(controller_.data_port(), 0, static_cast<uint64_t>(command), width);
      (void)fakes::read_register(controller_.command_port(), 0, width);
      (void)fakes::read_register(controller_.data_port(), 0, width);
    }
  }
  set_command_byte(0x04);
  (void)read_all();
  EXPECT_THAT(to_keyboard({0xff}), ElementsAre(0xfa, 0xaa));
  EXPECT_THAT(to_mouse({0xff}), ElementsAre(0x1fa, 0x1aa, 0x100));
  EXPECT_THAT(read_all(), IsEmpty());
}

}  // namespace
}  // namespace wick::devices
