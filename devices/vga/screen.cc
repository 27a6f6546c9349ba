#include "devices/vga/screen.h"

#include <algorithm>

#include "devices/vga/bochs_display.h"
#include "devices/vga/vram.h"

namespace wick::devices::vga {

namespace {

using Kind = Screen::Kind;

// The size of a blank screen whose registers give no size, as before the firmware sets a mode.
constexpr uint32_t kBlankWidth = 640, kBlankHeight = 480;
constexpr uint32_t kMinBlank = 64;

uint32_t crtc16(const State& state, Crtc high, Crtc low) {
  return uint32_t{state.crtc[high]} << 8 | state.crtc[low];
}

uint32_t displayed_lines(const State& state) {
  const auto& crtc = state.crtc;
  return 1 + (uint32_t{crtc[kVerticalDisplayEnd]} | (crtc[kOverflow] & 0x02u) << 7 |
              (crtc[kOverflow] & 0x40u) << 3);
}

uint32_t line_compare(const State& state) {
  const auto& crtc = state.crtc;
  return uint32_t{crtc[kLineCompare]} | (crtc[kOverflow] & 0x10u) << 4 |
         (crtc[kMaximumScanLine] & 0x40u) << 3;
}

uint32_t characters(const State& state) { return uint32_t{state.crtc[kHorizontalDisplayEnd]} + 1; }

bool half_clock(const State& state) { return (state.sequencer[kClockingMode] & kClockHalf) != 0; }

// Returns the 8 bits of a colour component. The lowest bit of a 6-bit component is repeated, as in
// QEMU.
uint32_t component(const State& state, size_t index) {
  const uint8_t value = state.dac.colors[index];
  if ((state.display[kEnable] & kDac8Bits) != 0) return value;
  return (value & 0x3fu) << 2 | (value & 1u) * 3;
}

uint32_t color(const State& state, uint8_t index) {
  const size_t first = size_t{static_cast<uint8_t>(index & state.dac.mask)} * 3;
  return component(state, first) << 16 | component(state, first + 1) << 8 |
         component(state, first + 2);
}

// "Attribute Controller": 16 colours, each with its own index into the DAC.
void set_16_colors(const State& state, Screen& screen) {
  const uint8_t select = state.attribute[kColorSelect];
  for (uint8_t i = 0; i < 16; ++i) {
    const uint8_t entry = state.attribute[i];
    const bool short_entry = (state.attribute[kAttributeMode] & kPaletteBits) != 0;
    screen.colors[i] =
        color(state, static_cast<uint8_t>(short_entry ? select << 4 | (entry & 0x0f)
                                                      : (select & 0x0c) << 4 | (entry & 0x3f)));
  }
}

void set_256_colors(const State& state, Screen& screen) {
  for (size_t i = 0; i < screen.colors.size(); ++i)
    screen.colors[i] = color(state, static_cast<uint8_t>(i));
}

// "Character Map Select": bits 5, 3 and 2 select map A, for characters with bit 3 of the attribute
// set; bits 4, 1 and 0 select map B.
std::array<uint64_t, 2> glyph_addresses(const State& state) {
  const uint8_t select = state.sequencer[kCharacterMapSelect];
  const auto address = [](uint32_t low_bits, uint32_t high_bit) {
    return uint64_t{low_bits * 2 + high_bit} * 8192;
  };
  return {address(select & 3, select >> 4 & 1), address(select >> 2 & 3, select >> 5 & 1)};
}

void set_text(const State& state, Screen& screen) {
  const auto& crtc = state.crtc;
  Screen::Text& text = screen.text;
  screen.kind = Kind::kText;
  text.columns = characters(state);
  const bool eight_dots = (state.sequencer[kClockingMode] & kClock8Dots) != 0;
  text.cell_width = half_clock(state) ? 16 : eight_dots ? 8 : 9;
  text.line_repeat = (crtc[kMaximumScanLine] & kDoubleScan) != 0 ? 2 : 1;
  text.cell_height = ((crtc[kMaximumScanLine] & 0x1fu) + 1) * text.line_repeat;
  text.rows = displayed_lines(state) / text.cell_height;
  screen.width = text.columns * text.cell_width;
  screen.height = text.rows * text.cell_height;
  if (const uint32_t compare = line_compare(state); compare > 0)
    text.split_row = (compare + text.cell_height - 1) / text.cell_height;
  text.glyphs = glyph_addresses(state);
  text.line_graphics = (state.attribute[kAttributeMode] & kLineGraphics) != 0;
  text.blink = (state.attribute[kAttributeMode] & kBlink) != 0;
  text.cursor = {.visible = (crtc[kCursorStart] & kCursorOff) == 0,
                 .position = crtc16(state, kCursorLocationHigh, kCursorLocationLow),
                 .first_line = crtc[kCursorStart] & 0x1fu,
                 .last_line = crtc[kCursorEnd] & 0x1fu};
  set_16_colors(state, screen);
}

void set_pan(const State& state, Screen& screen) {
  const uint8_t pan = state.attribute[kPixelPanning];
  // "Horizontal PEL Panning": with 8 dots per character, 8 means no panning.
  screen.lines.pan_dots = pan >= 8 ? 0 : screen.kind == Kind::kBytes ? pan / 2u : pan;
  screen.lines.pan_only_top = (state.attribute[kAttributeMode] & kPanOnlyTop) != 0;
}

void set_graphics(const State& state, Screen& screen) {
  const auto& crtc = state.crtc;
  Screen::Lines& lines = screen.lines;
  const bool doubled = half_clock(state);
  screen.width = characters(state) * 8;
  screen.height = displayed_lines(state);
  lines.split_line = line_compare(state) + 1;
  lines.line_repeat = (crtc[kMaximumScanLine] & kDoubleScan) != 0 ? 2 : 1;
  lines.row_lines = (crtc[kMaximumScanLine] & 0x1fu) + 1;
  lines.preset_row_scan = crtc[kPresetRowScan] & 0x1fu;
  // "Mode Control". In byte mode the address counter counts bytes of the planes. Otherwise it
  // counts words, which lie as close together as the bytes in this memory layout.
  const uint64_t bank = (crtc[kModeControl] & kByteMode) != 0 ? 1 << 15 : 1 << 14;
  if ((crtc[kModeControl] & kNoCgaBank) == 0) lines.cga_bank = bank;
  if ((crtc[kModeControl] & kNoHerculesBank) == 0) lines.hercules_bank = bank << 1;
  lines.planes = state.attribute[kColorPlaneEnable] & 0x0f;
  switch (state.graphics[kGraphicsMode] & kShiftMode) {
    case 0x00:
      screen.kind = Kind::kPlanar;
      lines.dot_repeat = doubled ? 2 : 1;
      screen.width *= lines.dot_repeat;
      set_16_colors(state, screen);
      break;
    case 0x20:
      screen.kind = Kind::kInterleaved;
      lines.dot_repeat = doubled ? 2 : 1;
      screen.width *= lines.dot_repeat;
      set_16_colors(state, screen);
      break;
    default:
      screen.kind = Kind::kBytes;
      lines.dot_repeat = 2;
      set_256_colors(state, screen);
      break;
  }
  set_pan(state, screen);
}

void set_display(const State& state, uint64_t vram_bytes, Screen& screen) {
  const DisplayMode mode = display_mode(state);
  screen.width = mode.width;
  screen.height = mode.height;
  screen.start_bytes = mode.start_bytes;
  screen.line_bytes = mode.line_bytes;
  screen.wrap_bytes = vram_bytes;
  screen.lines.bits_per_pixel = mode.bits_per_pixel;
  if (mode.bits_per_pixel == 4) {
    screen.kind = Kind::kPlanar;
    screen.lines.planes = state.attribute[kColorPlaneEnable] & 0x0f;
    set_16_colors(state, screen);
  } else if (mode.bits_per_pixel == 8) {
    screen.kind = Kind::kBytes;
    set_256_colors(state, screen);
  } else {
    screen.kind = Kind::kDirect;
    screen.lines.big_endian = state.big_endian;
  }
}

Screen blank(uint32_t width, uint32_t height) {
  Screen screen;
  const bool usable = width >= kMinBlank && height >= kMinBlank;
  screen.width = usable ? width : kBlankWidth;
  screen.height = usable ? height : kBlankHeight;
  return screen;
}

}  // namespace

Screen screen_of(const State& state, uint64_t vram_bytes) {
  Screen screen;
  if (display_enabled(state)) {
    set_display(state, vram_bytes, screen);
  } else {
    screen.start_bytes = uint64_t{crtc16(state, kStartAddressHigh, kStartAddressLow)} * 4;
    screen.line_bytes = uint64_t{state.crtc[kOffset]} * 8;
    screen.wrap_bytes = Vram::kMinBytes;
    if ((state.graphics[kGraphicsMiscellaneous] & kGraphicsEnable) != 0)
      set_graphics(state, screen);
    else
      set_text(state, screen);
  }
  const bool off = (state.sequencer[kClockingMode] & kScreenOff) != 0 ||
                   (state.attribute_index & kPaletteSource) == 0;
  if (off || screen.width == 0 || screen.height == 0) return blank(screen.width, screen.height);
  return screen;
}

}  // namespace wick::devices::vga
