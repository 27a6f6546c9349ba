#include "devices/ps2_keyboard.h"

#include <gmock/gmock.h>

#include <set>

#include "devices/ps2_scan_codes.h"
#include "tests/devices/ps2_fixture.h"

namespace wick::devices {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Ps2KeyboardTest : public Ps2Test {
 protected:
  Ps2KeyboardTest() { set_command_byte(0x04); }
  Bytes type(uint16_t key, bool down) {
    keyboard_.key(key, down);
    return read_all();
  }
};

TEST_F(Ps2KeyboardTest, SendsMakeAndBreakCodes) {
  EXPECT_THAT(type(KEY_A, true), ElementsAre(0x1c));
  EXPECT_THAT(type(KEY_A, false), ElementsAre(0xf0, 0x1c));
  EXPECT_THAT(type(KEY_RIGHTCTRL, true), ElementsAre(0xe0, 0x14));
  EXPECT_THAT(type(KEY_RIGHTCTRL, false), ElementsAre(0xe0, 0xf0, 0x14));
  EXPECT_THAT(type(KEY_F7, true), ElementsAre(0x83));
  EXPECT_THAT(type(KEY_F7, false), ElementsAre(0xf0, 0x83));
}

TEST_F(Ps2KeyboardTest, RepeatsAKeyThatTheHostRepeats) {
  EXPECT_THAT(type(KEY_A, true), ElementsAre(0x1c));
  EXPECT_THAT(type(KEY_A, true), ElementsAre(0x1c));
  EXPECT_THAT(type(KEY_A, false), ElementsAre(0xf0, 0x1c));
}

TEST_F(Ps2KeyboardTest, SendsNoReleaseWithoutAPress) { EXPECT_THAT(type(KEY_A, false), IsEmpty()); }

TEST_F(Ps2KeyboardTest, PrintScreenDependsOnTheModifiers) {
  EXPECT_THAT(type(KEY_SYSRQ, true), ElementsAre(0xe0, 0x12, 0xe0, 0x7c));
  EXPECT_THAT(type(KEY_SYSRQ, false), ElementsAre(0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12));
  (void)type(KEY_LEFTSHIFT, true);
  EXPECT_THAT(type(KEY_SYSRQ, true), ElementsAre(0xe0, 0x7c));
  EXPECT_THAT(type(KEY_SYSRQ, false), ElementsAre(0xe0, 0xf0, 0x7c));
  (void)type(KEY_LEFTSHIFT, false);
  (void)type(KEY_LEFTALT, true);
  EXPECT_THAT(type(KEY_SYSRQ, true), ElementsAre(0x84)) << "Linux takes it for SysRq";
  (void)type(KEY_LEFTALT, false);
  EXPECT_THAT(type(KEY_SYSRQ, false), ElementsAre(0xf0, 0x84)) << "of the code that was made";
}

TEST_F(Ps2KeyboardTest, PauseHasNoRelease) {
  EXPECT_THAT(type(KEY_PAUSE, true), ElementsAre(0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77));
  EXPECT_THAT(type(KEY_PAUSE, false), IsEmpty());
  (void)type(KEY_LEFTCTRL, true);
  EXPECT_THAT(type(KEY_PAUSE, true), ElementsAre(0xe0, 0x7e, 0xe0, 0xf0, 0x7e));
}

TEST_F(Ps2KeyboardTest, HasTheKeysOfJapanBrazilAndKorea) {
  EXPECT_THAT(type(KEY_YEN, true), ElementsAre(0x6a));
  EXPECT_THAT(type(KEY_RO, true), ElementsAre(0x51));
  EXPECT_THAT(type(KEY_KATAKANAHIRAGANA, true), ElementsAre(0x13));
  EXPECT_THAT(type(KEY_KPCOMMA, true), ElementsAre(0x6d));
  EXPECT_THAT(type(KEY_HANGEUL, true), ElementsAre(0xf2));
  EXPECT_THAT(type(KEY_HANGEUL, false), IsEmpty());
}

TEST_F(Ps2KeyboardTest, IgnoresWhatIsNoKey) {
  EXPECT_THAT(type(KEY_RESERVED, true), IsEmpty());
  EXPECT_THAT(type(KEY_MACRO, true), IsEmpty());
  EXPECT_THAT(type(BTN_LEFT, true), IsEmpty());
  EXPECT_THAT(type(0xffff, true), IsEmpty());
}

TEST_F(Ps2KeyboardTest, EachKeyHasACodeOfItsOwn) {
  std::set<uint16_t> codes;
  std::set<int> translated;
  for (uint16_t key = 0; key < 256; ++key) {
    const uint16_t code = set2_code(key);
    if (code == 0) continue;
    EXPECT_TRUE(codes.insert(code).second) << key;
    EXPECT_TRUE(translated.insert((code & 0xff00) + to_set1(static_cast<uint8_t>(code))).second)
        << key;
  }
  EXPECT_GT(codes.size(), 130u);
  // The keys of the first PCs have the number of their code in set 1.
  for (uint16_t key = KEY_ESC; key <= KEY_F10; ++key)
    EXPECT_EQ(to_set1(static_cast<uint8_t>(set2_code(key))), key);
}

TEST_F(Ps2KeyboardTest, IdentifiesItself) {
  EXPECT_THAT(to_keyboard({0xf2}), ElementsAre(0xfa, 0xab, 0x83));
  EXPECT_THAT(to_keyboard({0xee}), ElementsAre(0xee));
}

TEST_F(Ps2KeyboardTest, TellsOfItsLeds) {
  EXPECT_THAT(to_keyboard({0xed, 0x05}), ElementsAre(0xfa, 0xfa));
  EXPECT_EQ(leds_, kScrollLock | kCapsLock);
  leds_ = -1;
  EXPECT_THAT(to_keyboard({0xed, 0x05}), ElementsAre(0xfa, 0xfa));
  EXPECT_EQ(leds_, -1) << "they did not change";
  EXPECT_THAT(to_keyboard({0xff}), ElementsAre(0xfa, 0xaa));
  EXPECT_EQ(leds_, 0);
}

TEST_F(Ps2KeyboardTest, ACommandInsteadOfAParameterIsACommand) {
  EXPECT_THAT(to_keyboard({0xed, 0xf2}), ElementsAre(0xfa, 0xfa, 0xab, 0x83));
  EXPECT_THAT(to_keyboard({0x07}), ElementsAre(0xfe));
  EXPECT_EQ(leds_, -1);
}

TEST_F(Ps2KeyboardTest, TakesTheTypematicRate) {
  EXPECT_THAT(to_keyboard({0xf3, 0x00}), ElementsAre(0xfa, 0xfa));
  EXPECT_EQ(keyboard_.state().typematic, 0);
  EXPECT_THAT(to_keyboard({0xf3, 0x80}), ElementsAre(0xfa, 0xfe));
}

TEST_F(Ps2KeyboardTest, ChangesItsScanCodeSet) {
  EXPECT_THAT(to_keyboard({0xf0, 0x00}), ElementsAre(0xfa, 0xfa, 0x02));
  EXPECT_THAT(to_keyboard({0xf0, 0x01}), ElementsAre(0xfa, 0xfa));
  EXPECT_THAT(to_keyboard({0xf0, 0x00}), ElementsAre(0xfa, 0xfa, 0x01));
  EXPECT_THAT(type(KEY_UP, true), ElementsAre(0xe0, 0x48));
  EXPECT_THAT(type(KEY_UP, false), ElementsAre(0xe0, 0xc8));
  EXPECT_THAT(type(KEY_PAUSE, true), ElementsAre(0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5));
  EXPECT_THAT(to_keyboard({0xf0, 0x03}), ElementsAre(0xfa, 0xfe)) << "it has no set 3";
  EXPECT_THAT(to_keyboard({0xf0, 0x00}), ElementsAre(0xfa, 0xfa, 0x01));
  EXPECT_THAT(to_keyboard({0xf6}), ElementsAre(0xfa));
  EXPECT_THAT(type(KEY_UP, true), ElementsAre(0xe0, 0x75)) << "the default is set 2";
}

TEST_F(Ps2KeyboardTest, SendsNothingWhileDisabled) {
  EXPECT_TRUE(keyboard_.active());
  EXPECT_THAT(to_keyboard({0xf5}), ElementsAre(0xfa));
  EXPECT_FALSE(keyboard_.active());
  EXPECT_THAT(type(KEY_A, true), IsEmpty());
  EXPECT_THAT(to_keyboard({0xf4}), ElementsAre(0xfa));
  EXPECT_TRUE(keyboard_.active());
  EXPECT_THAT(type(KEY_A, false), IsEmpty()) << "the driver does not know of the press";
  EXPECT_THAT(type(KEY_A, true), ElementsAre(0x1c));
}

TEST_F(Ps2KeyboardTest, ForgetsKeysAtAReset) {
  write_command(0xad);
  keyboard_.key(KEY_A, true);
  EXPECT_THAT(to_keyboard({0xff}), ElementsAre(0xfa, 0xaa));
  EXPECT_THAT(type(KEY_A, false), IsEmpty());
}

TEST_F(Ps2KeyboardTest, SendsItsLastByteAgain) {
  EXPECT_THAT(to_keyboard({0xf2}), ElementsAre(0xfa, 0xab, 0x83));
  EXPECT_THAT(to_keyboard({0xfe}), ElementsAre(0x83));
}

TEST_F(Ps2KeyboardTest, RefusesUnknownCommands) {
  EXPECT_THAT(to_keyboard({0xef}), ElementsAre(0xfe));
  EXPECT_THAT(to_keyboard({0x00}), ElementsAre(0xfe));
  EXPECT_THAT(to_keyboard({0xfa}), ElementsAre(0xfa)) << "of set 3, and without effect";
}

TEST_F(Ps2KeyboardTest, AReplyDoesNotWaitForKeys) {
  keyboard_.key(KEY_A, true);
  keyboard_.key(KEY_B, true);
  keyboard_.key(KEY_C, true);
  write_data(0xf4);
  EXPECT_THAT(read_all(), ElementsAre(0x1c, 0xfa, 0x32, 0x21));
}

TEST_F(Ps2KeyboardTest, ATooFullBufferLosesPressesButNoRelease) {
  keyboard_.key(KEY_A, true);
  keyboard_.key(KEY_B, true);
  for (int i = 0; i < 1000; ++i) keyboard_.key(KEY_C, true);
  keyboard_.key(KEY_D, true);
  keyboard_.key(KEY_A, false);
  keyboard_.key(KEY_B, false);
  keyboard_.key(KEY_C, false);
  keyboard_.key(KEY_D, false);
  EXPECT_LE(keyboard_.state().keys.size(), Ps2Keyboard::kBufferBytes);
  const Bytes bytes = read_all();
  ASSERT_GT(bytes.size(), Ps2Keyboard::kBufferBytes);
  const auto overrun = std::ranges::find(bytes, 0);
  ASSERT_NE(overrun, bytes.end()) << "the driver is told";
  EXPECT_THAT(Bytes(overrun + 1, bytes.end()), ElementsAre(0xf0, 0x1c, 0xf0, 0x21, 0xf0, 0x32));
  EXPECT_THAT(type(KEY_D, true), ElementsAre(0x23)) << "it goes on";
}

TEST_F(Ps2KeyboardTest, AKeyThatIsPressedAgainWhileItsReleaseIsOwedStaysPressed) {
  keyboard_.key(KEY_A, true);
  for (int i = 0; i < 1000; ++i) keyboard_.key(KEY_C, true);
  keyboard_.key(KEY_A, false);
  keyboard_.key(KEY_A, true);
  (void)read_all();
  EXPECT_THAT(type(KEY_A, false), ElementsAre(0xf0, 0x1c));
}

TEST_F(Ps2KeyboardTest, NeverHoldsMoreThanItsBuffers) {
  for (int i = 0; i < 10'000; ++i) {
    keyboard_.key(static_cast<uint16_t>(i % 256), i % 3 != 0);
    write_data(static_cast<uint8_t>(i * 7));
  }
  EXPECT_LE(keyboard_.state().keys.size(), Ps2Keyboard::kBufferBytes);
  EXPECT_LE(keyboard_.state().replies.size(), kPs2MaxReplyBytes);
}

}  // namespace
}  // namespace wick::devices
