#include "display/keysyms.h"

#include <linux/input-event-codes.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>

namespace wick::display {

namespace {

// The symbols of a row of keys on a US keyboard. The keys have consecutive codes.
struct Row {
  uint16_t first_key;
  std::string_view plain, shifted;
};

constexpr std::array kRows = {
    Row{KEY_1, "1234567890-=", "!@#$%^&*()_+"},
    Row{KEY_Q, "qwertyuiop[]", "QWERTYUIOP{}"},
    Row{KEY_A, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    Row{KEY_BACKSLASH, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
    Row{KEY_SPACE, " ", ""},
};

struct Entry {
  uint32_t from;
  uint16_t key;
};

constexpr Entry kKeysyms[] = {
    {0x00a0, KEY_SPACE},     // nobreakspace
    {0xfe03, KEY_RIGHTALT},  // ISO_Level3_Shift
    {0xfe20, KEY_TAB},       // ISO_Left_Tab, which is Shift+Tab
    {0xff08, KEY_BACKSPACE},
    {0xff09, KEY_TAB},
    {0xff0a, KEY_ENTER},  // Linefeed
    {0xff0d, KEY_ENTER},
    {0xff13, KEY_PAUSE},
    {0xff14, KEY_SCROLLLOCK},
    {0xff15, KEY_SYSRQ},
    {0xff1b, KEY_ESC},
    {0xff20, KEY_COMPOSE},  // Multi_key
    {0xff22, KEY_MUHENKAN},
    {0xff23, KEY_HENKAN},
    {0xff25, KEY_HIRAGANA},
    {0xff26, KEY_KATAKANA},
    {0xff27, KEY_KATAKANAHIRAGANA},
    {0xff2a, KEY_ZENKAKUHANKAKU},
    {0xff31, KEY_HANGEUL},
    {0xff34, KEY_HANJA},
    {0xff50, KEY_HOME},
    {0xff51, KEY_LEFT},
    {0xff52, KEY_UP},
    {0xff53, KEY_RIGHT},
    {0xff54, KEY_DOWN},
    {0xff55, KEY_PAGEUP},
    {0xff56, KEY_PAGEDOWN},
    {0xff57, KEY_END},
    {0xff61, KEY_SYSRQ},  // Print
    {0xff63, KEY_INSERT},
    {0xff67, KEY_COMPOSE},   // Menu
    {0xff6b, KEY_PAUSE},     // Break, which is Control+Pause
    {0xff7e, KEY_RIGHTALT},  // Mode_switch
    {0xff7f, KEY_NUMLOCK},
    {0xff80, KEY_SPACE},  // KP_Space
    {0xff8d, KEY_KPENTER},
    // The keypad's keys without Num Lock: KP_Home to KP_Delete.
    {0xff95, KEY_KP7},
    {0xff96, KEY_KP4},
    {0xff97, KEY_KP8},
    {0xff98, KEY_KP6},
    {0xff99, KEY_KP2},
    {0xff9a, KEY_KP9},
    {0xff9b, KEY_KP3},
    {0xff9c, KEY_KP1},
    {0xff9d, KEY_KP5},
    {0xff9e, KEY_KP0},
    {0xff9f, KEY_KPDOT},
    {0xffaa, KEY_KPASTERISK},
    {0xffab, KEY_KPPLUS},
    {0xffac, KEY_KPCOMMA},
    {0xffad, KEY_KPMINUS},
    {0xffae, KEY_KPDOT},
    {0xffaf, KEY_KPSLASH},
    {0xffb0, KEY_KP0},
    {0xffb1, KEY_KP1},
    {0xffb2, KEY_KP2},
    {0xffb3, KEY_KP3},
    {0xffb4, KEY_KP4},
    {0xffb5, KEY_KP5},
    {0xffb6, KEY_KP6},
    {0xffb7, KEY_KP7},
    {0xffb8, KEY_KP8},
    {0xffb9, KEY_KP9},
    {0xffbd, KEY_KPEQUAL},
    // F1 to F24
    {0xffbe, KEY_F1},
    {0xffbf, KEY_F2},
    {0xffc0, KEY_F3},
    {0xffc1, KEY_F4},
    {0xffc2, KEY_F5},
    {0xffc3, KEY_F6},
    {0xffc4, KEY_F7},
    {0xffc5, KEY_F8},
    {0xffc6, KEY_F9},
    {0xffc7, KEY_F10},
    {0xffc8, KEY_F11},
    {0xffc9, KEY_F12},
    {0xffca, KEY_F13},
    {0xffcb, KEY_F14},
    {0xffcc, KEY_F15},
    {0xffcd, KEY_F16},
    {0xffce, KEY_F17},
    {0xffcf, KEY_F18},
    {0xffd0, KEY_F19},
    {0xffd1, KEY_F20},
    {0xffd2, KEY_F21},
    {0xffd3, KEY_F22},
    {0xffd4, KEY_F23},
    {0xffd5, KEY_F24},
    {0xffe1, KEY_LEFTSHIFT},
    {0xffe2, KEY_RIGHTSHIFT},
    {0xffe3, KEY_LEFTCTRL},
    {0xffe4, KEY_RIGHTCTRL},
    {0xffe5, KEY_CAPSLOCK},
    {0xffe6, KEY_CAPSLOCK},  // Shift_Lock
    {0xffe7, KEY_LEFTALT},   // Meta_L
    {0xffe8, KEY_RIGHTALT},  // Meta_R
    {0xffe9, KEY_LEFTALT},
    {0xffea, KEY_RIGHTALT},
    {0xffeb, KEY_LEFTMETA},   // Super_L
    {0xffec, KEY_RIGHTMETA},  // Super_R
    {0xffed, KEY_LEFTMETA},   // Hyper_L
    {0xffee, KEY_RIGHTMETA},  // Hyper_R
    {0xffff, KEY_DELETE},
    // The audio keys of <X11/XF86keysym.h>
    {0x1008ff11, KEY_VOLUMEDOWN},
    {0x1008ff12, KEY_MUTE},
    {0x1008ff13, KEY_VOLUMEUP},
    {0x1008ff14, KEY_PLAYPAUSE},
    {0x1008ff15, KEY_STOPCD},
    {0x1008ff16, KEY_PREVIOUSSONG},
    {0x1008ff17, KEY_NEXTSONG},
};

// The scan codes of set 1 above 0x53. Up to 0x53, a scan code is also the KEY_* code.
constexpr Entry kScanCodes[] = {
    {0x54, KEY_SYSRQ},
    {0x56, KEY_102ND},
    {0x57, KEY_F11},
    {0x58, KEY_F12},
    {0x59, KEY_KPEQUAL},
    {0x64, KEY_F13},
    {0x65, KEY_F14},
    {0x66, KEY_F15},
    {0x67, KEY_F16},
    {0x68, KEY_F17},
    {0x69, KEY_F18},
    {0x6a, KEY_F19},
    {0x6b, KEY_F20},
    {0x6c, KEY_F21},
    {0x6d, KEY_F22},
    {0x6e, KEY_F23},
    {0x70, KEY_KATAKANAHIRAGANA},
    {0x71, KEY_HANJA},
    {0x72, KEY_HANGEUL},
    {0x73, KEY_RO},
    {0x76, KEY_F24},
    {0x77, KEY_HIRAGANA},
    {0x78, KEY_KATAKANA},
    {0x79, KEY_HENKAN},
    {0x7b, KEY_MUHENKAN},
    {0x7d, KEY_YEN},
    {0x7e, KEY_KPCOMMA},
    {0x90, KEY_PREVIOUSSONG},
    {0x99, KEY_NEXTSONG},
    {0x9c, KEY_KPENTER},
    {0x9d, KEY_RIGHTCTRL},
    {0xa0, KEY_MUTE},
    {0xa2, KEY_PLAYPAUSE},
    {0xa4, KEY_STOPCD},
    {0xae, KEY_VOLUMEDOWN},
    {0xb0, KEY_VOLUMEUP},
    {0xb5, KEY_KPSLASH},
    {0xb7, KEY_SYSRQ},
    {0xb8, KEY_RIGHTALT},
    {0xc6, KEY_PAUSE},
    {0xc7, KEY_HOME},
    {0xc8, KEY_UP},
    {0xc9, KEY_PAGEUP},
    {0xcb, KEY_LEFT},
    {0xcd, KEY_RIGHT},
    {0xcf, KEY_END},
    {0xd0, KEY_DOWN},
    {0xd1, KEY_PAGEDOWN},
    {0xd2, KEY_INSERT},
    {0xd3, KEY_DELETE},
    {0xdb, KEY_LEFTMETA},
    {0xdc, KEY_RIGHTMETA},
    {0xdd, KEY_COMPOSE},
    {0xde, KEY_POWER},
    {0xdf, KEY_SLEEP},
    {0xe3, KEY_WAKEUP},
};

static_assert(std::ranges::is_sorted(kKeysyms, {}, &Entry::from));
static_assert(std::ranges::is_sorted(kScanCodes, {}, &Entry::from));

template <size_t N>
std::optional<uint16_t> find(const Entry (&table)[N], uint32_t value) {
  const auto* const entry = std::ranges::lower_bound(table, value, {}, &Entry::from);
  if (entry == std::end(table) || entry->from != value) return std::nullopt;
  return entry->key;
}

}  // namespace

std::optional<uint16_t> key_of_keysym(uint32_t keysym) {
  // A keysym of this form is a character of Unicode. The first 256 characters of Unicode are those
  // of Latin-1.
  constexpr uint32_t kUnicode = 0x0100'0000;
  if (keysym >= kUnicode + 0x20 && keysym <= kUnicode + 0xff) keysym -= kUnicode;
  if (keysym > 0x7f) return find(kKeysyms, keysym);
  for (const Row& row : kRows) {
    for (const std::string_view symbols : {row.plain, row.shifted}) {
      const size_t column = symbols.find(static_cast<char>(keysym));
      if (column != std::string_view::npos) return static_cast<uint16_t>(row.first_key + column);
    }
  }
  return std::nullopt;
}

std::optional<uint16_t> key_of_scan_code(uint32_t scan_code) {
  if (scan_code >= KEY_ESC && scan_code <= KEY_KPDOT) return static_cast<uint16_t>(scan_code);
  return find(kScanCodes, scan_code);
}

}  // namespace wick::display
