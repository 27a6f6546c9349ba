#include "devices/vga/bochs_display.h"

#include <algorithm>

#include "display/picture.h"

namespace wick::devices::vga {

namespace {

using display::Picture;

constexpr uint16_t kFirstId = 0xb0c0, kLastId = 0xb0c5;
constexpr uint16_t kMaxBitsPerPixel = 32;
constexpr uint64_t kBankBytes = 64 << 10;

bool is_depth(uint16_t bits_per_pixel) {
  switch (bits_per_pixel) {
    case 4:
    case 8:
    case 15:
    case 16:
    case 24:
    case 32:
      return true;
    default:
      return false;
  }
}

// Returns the bits that a pixel takes in memory. Pixels of 4 bits are spread over four planes.
uint64_t storage_bits(uint16_t bits_per_pixel) {
  return bits_per_pixel == 15 ? 16 : bits_per_pixel;
}

bool fits(const State& state, uint64_t vram_bytes) {
  const DisplayMode mode = display_mode(state);
  const uint64_t last_line = mode.width * storage_bits(state.display[kBitsPerPixel]) / 8;
  return mode.start_bytes + (mode.height - 1) * mode.line_bytes + last_line <= vram_bytes;
}

// Completes the registers of a mode; returns false if the card has no such mode.
bool settle(State& state, uint64_t vram_bytes) {
  auto& display = state.display;
  if (!is_depth(display[kBitsPerPixel])) return false;
  // The planes have eight pixels per byte.
  const uint16_t unit = display[kBitsPerPixel] == 4 ? 8 : 1;
  display[kWidth] = static_cast<uint16_t>(display[kWidth] / unit * unit);
  display[kVirtualWidth] = static_cast<uint16_t>(display[kVirtualWidth] / unit * unit);
  if (display[kWidth] == 0 || display[kWidth] > Picture::kMaxWidth) return false;
  if (display[kHeight] == 0 || display[kHeight] > Picture::kMaxHeight) return false;
  display[kVirtualWidth] = std::max(display[kVirtualWidth], display[kWidth]);
  // A driver that moves the picture writes the two offsets one after the other. If the picture does
  // not fit, the cause may be the offset that the driver has not written yet. So the offsets are
  // set to 0, first Y, then X, before the mode is refused.
  if (!fits(state, vram_bytes)) display[kOffsetY] = 0;
  if (!fits(state, vram_bytes)) display[kOffsetX] = 0;
  if (!fits(state, vram_bytes)) return false;
  const uint64_t lines = vram_bytes / display_mode(state).line_bytes;
  display[kVirtualHeight] = static_cast<uint16_t>(std::min<uint64_t>(lines, 0xffff));
  return true;
}

// Sets registers of the VGA that programs expect to suit the mode: those of the window at 0xa0000,
// and those of the picture's size.
void set_vga_registers(State& state) {
  const DisplayMode mode = display_mode(state);
  const uint32_t last_line = mode.height - 1;
  state.graphics[kGraphicsMiscellaneous] = static_cast<uint8_t>(
      (state.graphics[kGraphicsMiscellaneous] & ~kMemoryMap) | 0x04 | kGraphicsEnable);
  state.graphics[kGraphicsMode] &= static_cast<uint8_t>(~kShiftMode);
  if (mode.bits_per_pixel == 4) {
    state.sequencer[kClockingMode] &= static_cast<uint8_t>(~kClockHalf);
    state.sequencer[kMemoryMode] &= static_cast<uint8_t>(~kChain4);
    state.graphics[kGraphicsMode] &= static_cast<uint8_t>(~kOddEven);
  } else {
    state.graphics[kGraphicsMode] |= 0x40;
    state.sequencer[kMemoryMode] |= kChain4;
    state.sequencer[kMapMask] = 0x0f;
  }
  auto& crtc = state.crtc;
  crtc[kModeControl] |= kNoCgaBank | kNoHerculesBank;
  crtc[kOffset] = static_cast<uint8_t>(mode.line_bytes / 8);
  crtc[kHorizontalDisplayEnd] = static_cast<uint8_t>(mode.width / 8 - 1);
  crtc[kVerticalDisplayEnd] = static_cast<uint8_t>(last_line);
  crtc[kLineCompare] = 0xff;
  crtc[kOverflow] = static_cast<uint8_t>((crtc[kOverflow] & ~0x42) | 0x10 |
                                         (last_line >> 7 & 0x02) | (last_line >> 3 & 0x40));
  // One scan line per row, and the highest bit of the line compare.
  crtc[kMaximumScanLine] = static_cast<uint8_t>((crtc[kMaximumScanLine] & ~0x9f) | 0x40);
}

uint64_t write_enable(State& state, uint16_t value, uint64_t vram_bytes) {
  const bool was_enabled = display_enabled(state);
  state.display[kEnable] = value;
  if (was_enabled || !display_enabled(state)) return 0;
  state.display[kVirtualWidth] = 0;
  state.display[kOffsetX] = 0;
  state.display[kOffsetY] = 0;
  if (!settle(state, vram_bytes)) {
    state.display[kEnable] &= static_cast<uint16_t>(~kEnabled);
    return 0;
  }
  set_vga_registers(state);
  const DisplayMode mode = display_mode(state);
  return (value & kNoClear) != 0 ? 0 : mode.height * mode.line_bytes;
}

// Changes a register. If the mode is enabled and the card has no mode with the new value, nothing
// changes.
void change(State& state, uint16_t index, uint16_t value, uint64_t vram_bytes) {
  const auto before = state.display;
  state.display[index] = value;
  if (display_enabled(state) && !settle(state, vram_bytes)) state.display = before;
}

}  // namespace

DisplayMode display_mode(const State& state) {
  const auto& display = state.display;
  const uint64_t bits = storage_bits(display[kBitsPerPixel]);
  const uint64_t line_bytes = display[kVirtualWidth] * bits / 8;
  return {.width = display[kWidth],
          .height = display[kHeight],
          .bits_per_pixel = display[kBitsPerPixel],
          .line_bytes = line_bytes,
          .start_bytes = display[kOffsetY] * line_bytes + display[kOffsetX] * bits / 8};
}

uint16_t read_display(const State& state, uint16_t index, uint64_t vram_bytes) {
  if ((state.display[kEnable] & kGetCapabilities) != 0) {
    if (index == kWidth) return Picture::kMaxWidth;
    if (index == kHeight) return Picture::kMaxHeight;
    if (index == kBitsPerPixel) return kMaxBitsPerPixel;
  }
  if (index == kVideoMemory64K) return static_cast<uint16_t>(vram_bytes / kBankBytes);
  return index < state.display.size() ? state.display[index] : uint16_t{0};
}

uint64_t write_display(State& state, uint16_t index, uint16_t value, uint64_t vram_bytes) {
  switch (index) {
    case kDisplayId:
      // The guest asks for the features of an older version.
      if (value >= kFirstId && value <= kLastId) state.display[kDisplayId] = value;
      return 0;
    case kBitsPerPixel:
      change(state, index, value == 0 ? uint16_t{8} : value, vram_bytes);
      return 0;
    case kWidth:
    case kHeight:
    case kVirtualWidth:
    case kOffsetX:
    case kOffsetY:
      change(state, index, value, vram_bytes);
      return 0;
    case kBank: {
      // In a mode with 4 bits per pixel, a bank has 64 KiB of each plane.
      const uint64_t bank_bytes = state.display[kBitsPerPixel] == 4 ? 4 * kBankBytes : kBankBytes;
      state.display[kBank] = static_cast<uint16_t>(value & (vram_bytes / bank_bytes - 1));
      return 0;
    }
    case kEnable:
      return write_enable(state, value, vram_bytes);
    default:
      return 0;
  }
}

}  // namespace wick::devices::vga
