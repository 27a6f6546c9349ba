// Scan codes of PC keyboards: which code of set 2 a key has, and the translation from set 2 to
// set 1 that the keyboard controller does for systems that expect an older keyboard.
//
// Thread rule: none; the tables are constant.
//
// Specification: IBM PS/2 Hardware Interface Technical Reference (1990), "Keyboards (101- and
// 102-Key)"; Microsoft, "Keyboard Scan Code Specification", revision 1.3a, for the keys that
// were added later.
#pragma once

#include <cstdint>

namespace wick::devices {

// Prefixes of scan codes.
constexpr uint8_t kScanExtended = 0xe0;
constexpr uint8_t kScanPause = 0xe1;
constexpr uint8_t kScanBreak = 0xf0;  // set 2: the next code is that of a released key

// Returns the code of a key (KEY_* of <linux/input-event-codes.h>) in set 2, with 0xe000 added if
// the prefix 0xe0 precedes it; 0 if a PS/2 keyboard has no such key. KEY_SYSRQ and KEY_PAUSE have
// sequences of their own (ps2_keyboard.cc).
uint16_t set2_code(uint16_t key);

// Returns the byte of set 1 for a byte of set 2 other than kScanBreak. Bytes that are not scan
// codes, such as replies of the keyboard, stay as they are.
uint8_t to_set1(uint8_t byte);

}  // namespace wick::devices
