// Keysyms and scan codes as keys.
#include "display/keysyms.h"

#include <gtest/gtest.h>
#include <linux/input-event-codes.h>

#include <string_view>

namespace wick::display {
namespace {

TEST(Keysyms, AShiftedSymbolIsItsKey) {
  constexpr std::string_view kPlain = "1234567890-=qwertyuiop[]asdfghjkl;'`\\zxcvbnm,./";
  constexpr std::string_view kShifted = "!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:\"~|ZXCVBNM<>?";
  ASSERT_EQ(kPlain.size(), kShifted.size());
  for (size_t i = 0; i < kPlain.size(); ++i) {
    const auto key = key_of_keysym(static_cast<uint8_t>(kPlain[i]));
    EXPECT_TRUE(key) << kPlain[i];
    EXPECT_EQ(key, key_of_keysym(static_cast<uint8_t>(kShifted[i]))) << kPlain[i];
  }
}

TEST(Keysyms, EveryPrintableCharacterOfAsciiHasAKey) {
  for (uint32_t character = 0x20; character < 0x7f; ++character) {
    EXPECT_TRUE(key_of_keysym(character)) << character;
    EXPECT_EQ(key_of_keysym(0x0100'0000 + character), key_of_keysym(character));
  }
}

TEST(Keysyms, AreTheKeysOfAUsKeyboard) {
  EXPECT_EQ(key_of_keysym('1'), KEY_1);
  EXPECT_EQ(key_of_keysym('0'), KEY_0);
  EXPECT_EQ(key_of_keysym('+'), KEY_EQUAL);
  EXPECT_EQ(key_of_keysym('p'), KEY_P);
  EXPECT_EQ(key_of_keysym('}'), KEY_RIGHTBRACE);
  EXPECT_EQ(key_of_keysym('a'), KEY_A);
  EXPECT_EQ(key_of_keysym('\''), KEY_APOSTROPHE);
  EXPECT_EQ(key_of_keysym('~'), KEY_GRAVE);
  EXPECT_EQ(key_of_keysym('|'), KEY_BACKSLASH);
  EXPECT_EQ(key_of_keysym('z'), KEY_Z);
  EXPECT_EQ(key_of_keysym('?'), KEY_SLASH);
  EXPECT_EQ(key_of_keysym(' '), KEY_SPACE);
}

TEST(Keysyms, OfFunctionNavigationAndModifierKeys) {
  EXPECT_EQ(key_of_keysym(0xffbe), KEY_F1);
  EXPECT_EQ(key_of_keysym(0xffc7), KEY_F10);
  EXPECT_EQ(key_of_keysym(0xffc8), KEY_F11);
  EXPECT_EQ(key_of_keysym(0xffc9), KEY_F12);
  EXPECT_EQ(key_of_keysym(0xff0d), KEY_ENTER);
  EXPECT_EQ(key_of_keysym(0xff1b), KEY_ESC);
  EXPECT_EQ(key_of_keysym(0xff08), KEY_BACKSPACE);
  EXPECT_EQ(key_of_keysym(0xffff), KEY_DELETE);
  EXPECT_EQ(key_of_keysym(0xfe20), KEY_TAB);
  EXPECT_EQ(key_of_keysym(0xff51), KEY_LEFT);
  EXPECT_EQ(key_of_keysym(0xff54), KEY_DOWN);
  EXPECT_EQ(key_of_keysym(0xff55), KEY_PAGEUP);
  EXPECT_EQ(key_of_keysym(0xffe1), KEY_LEFTSHIFT);
  EXPECT_EQ(key_of_keysym(0xffe4), KEY_RIGHTCTRL);
  EXPECT_EQ(key_of_keysym(0xffe9), KEY_LEFTALT);
  EXPECT_EQ(key_of_keysym(0xfe03), KEY_RIGHTALT);
  EXPECT_EQ(key_of_keysym(0xffeb), KEY_LEFTMETA);
}

TEST(Keysyms, OfTheKeypadAreItsOwnKeysWithAndWithoutNumLock) {
  EXPECT_EQ(key_of_keysym(0xffb7), KEY_KP7);
  EXPECT_EQ(key_of_keysym(0xff95), KEY_KP7);
  EXPECT_EQ(key_of_keysym(0xffb0), KEY_KP0);
  EXPECT_EQ(key_of_keysym(0xff9e), KEY_KP0);
  EXPECT_EQ(key_of_keysym(0xff8d), KEY_KPENTER);
  EXPECT_EQ(key_of_keysym(0xffaf), KEY_KPSLASH);
}

TEST(Keysyms, WithoutAKeyAreNone) {
  for (const uint32_t keysym :
       {0u, 0x1fu, 0x7fu, 0xe9u /* eacute */, 0xffdfu, 0x10000u, 0x0100'0000u, 0x0100'20acu, ~0u})
    EXPECT_FALSE(key_of_keysym(keysym)) << keysym;
}

TEST(ScanCodes, OfTheFirstSetAreTheKeysOfTheSameNumber) {
  for (uint32_t code = 1; code <= 0x53; ++code) EXPECT_EQ(key_of_scan_code(code), code);
  EXPECT_EQ(key_of_scan_code(0x56), KEY_102ND);
  EXPECT_EQ(key_of_scan_code(0x57), KEY_F11);
  EXPECT_EQ(key_of_scan_code(0x58), KEY_F12);
}

TEST(ScanCodes, WithThePrefixAreKeysOfTheirOwn) {
  EXPECT_EQ(key_of_scan_code(0x9c), KEY_KPENTER);
  EXPECT_EQ(key_of_scan_code(0x9d), KEY_RIGHTCTRL);
  EXPECT_EQ(key_of_scan_code(0xb8), KEY_RIGHTALT);
  EXPECT_EQ(key_of_scan_code(0xb5), KEY_KPSLASH);
  EXPECT_EQ(key_of_scan_code(0xc6), KEY_PAUSE);
  EXPECT_EQ(key_of_scan_code(0xc8), KEY_UP);
  EXPECT_EQ(key_of_scan_code(0xd3), KEY_DELETE);
  EXPECT_EQ(key_of_scan_code(0xdb), KEY_LEFTMETA);
}

TEST(ScanCodes, WithoutAKeyAreNone) {
  for (const uint32_t code : {0u, 0x55u, 0x80u, 0xaau, 0xffu, 0x100u, 0x101u, 0xe01cu, ~0u})
    EXPECT_FALSE(key_of_scan_code(code)) << code;
}

}  // namespace
}  // namespace wick::display
