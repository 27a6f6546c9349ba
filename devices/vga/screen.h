// What the registers of the card mean for the picture: size, layout of the video memory, colours.
// Two equal screens over the same video memory give the same picture.
//
// Sizes and colours are those of QEMU's screenshots, so that pictures can be compared. Dots and
// lines are doubled where a monitor would show them so: 320x200 becomes 640x400, and 40 columns
// become as wide as 80 columns of 8 dots. A character of 9 dots is 9 pixels wide.
//
// Specification: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem".
#pragma once

#include <array>
#include <cstdint>

#include "devices/vga/registers.h"

namespace wick::devices::vga {

struct Screen {
  enum class Kind : uint8_t {
    kBlank,
    kText,
    kPlanar,       // 16 colours, a bit in each plane
    kInterleaved,  // 4 colours as on a CGA, 2 bits in a pair of planes
    kBytes,        // 256 colours
    kDirect,       // 15 bits and more per pixel, without a palette
  };

  // The text cursor. `position` counts characters from the beginning of the video memory.
  struct Cursor {
    bool visible = false;
    uint32_t position = 0;
    uint32_t first_line = 0, last_line = 0;  // the character's lines that the cursor covers
    bool operator==(const Cursor&) const = default;
  };

  struct Text {
    uint32_t columns = 0, rows = 0;
    uint32_t cell_width = 0, cell_height = 0;  // in pixels
    uint32_t line_repeat = 1;                  // lines of the picture per line of a character
    uint32_t split_row = UINT32_MAX;           // the rows from here on begin at address 0
    std::array<uint64_t, 2> glyphs = {};       // addresses of patterns, by bit 3 of the attribute
    bool line_graphics = false;                // the ninth dot repeats the eighth
    bool blink = false;                        // bit 7 of the attribute is blink, not intensity
    Cursor cursor;
    bool operator==(const Text&) const = default;
  };

  struct Lines {
    uint32_t split_line = UINT32_MAX;  // the lines from here on begin at address 0
    uint32_t line_repeat = 1;          // lines of the picture per scan line, for double scan
    uint32_t row_lines = 1;            // scan lines per row; all show the same memory
    uint32_t preset_row_scan = 0;      // scan lines of the first row that are not shown
    uint64_t cga_bank = 0;             // the address bit that bit 0 of the row scan replaces; or 0
    uint64_t hercules_bank = 0;        // the address bit that bit 1 of the row scan replaces; or 0
    uint32_t dot_repeat = 1;           // pixels per dot
    uint32_t pan_dots = 0;             // dots of a line that are not shown
    bool pan_only_top = false;         // lines below the split line are not panned
    uint8_t planes = 0x0f;             // the planes that are shown
    uint32_t bits_per_pixel = 0;       // only for kDirect
    bool big_endian = false;
    bool operator==(const Lines&) const = default;
  };

  Kind kind = Kind::kBlank;
  uint32_t width = 0, height = 0;  // the picture's size; neither is 0
  uint64_t start_bytes = 0;
  uint64_t line_bytes = 0;                // from one line, or row of text, to the next
  uint64_t wrap_bytes = 0;                // where addresses wrap around to 0
  std::array<uint32_t, 256> colors = {};  // 0x00RRGGBB; kinds with 16 colours use only the first 16
  Text text;
  Lines lines;
  bool operator==(const Screen&) const = default;
};

Screen screen_of(const State& state, uint64_t vram_bytes);

}  // namespace wick::devices::vga
