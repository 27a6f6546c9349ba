#include "devices/vga/text.h"

#include <algorithm>

#include "base/bytes.h"

namespace wick::devices::vga {

namespace {

constexpr uint64_t kPlanes = 4;
constexpr uint32_t kCursorCell = 1 << 16;
constexpr uint32_t kMaxColumns = 256;

// Returns true for characters that are joined to their right neighbour. IBM's manual names 0xc0 to
// 0xdf. The shades from 0xb0 on are joined too, as in QEMU's pictures.
bool is_line_graphics(uint8_t character) { return character >= 0xb0 && character <= 0xdf; }

// Returns the pixels of one line of a character, as cell_width bits; the highest bit is the
// leftmost pixel.
uint32_t dots(const Screen::Text& text, uint8_t character, uint8_t pattern) {
  if (text.cell_width == 8) return pattern;
  if (text.cell_width == 9) {
    const bool joined = text.line_graphics && is_line_graphics(character);
    return uint32_t{pattern} << 1 | (joined ? pattern & 1u : 0);
  }
  uint32_t wide = 0;
  for (uint32_t bit = 0; bit < 8; ++bit) wide |= (pattern >> bit & 1u) * 3 << 2 * bit;
  return wide;
}

}  // namespace

Glyphs load_glyphs(const Screen& screen, const Vram& vram) {
  Glyphs glyphs;
  std::array<std::byte, kGlyphBytes * kPlanes> planes;
  for (size_t i = 0; i < glyphs.size(); i += kGlyphBytes) {
    const size_t map = i / (glyphs.size() / 2);
    const size_t within = i % (glyphs.size() / 2);
    vram.load((screen.text.glyphs[map] + within) * kPlanes, screen.wrap_bytes, planes);
    for (size_t line = 0; line < kGlyphBytes; ++line)
      glyphs[i + line] = std::to_integer<uint8_t>(planes[line * kPlanes + 2]);
  }
  return glyphs;
}

void load_cells(const Screen& screen, const Vram& vram, uint32_t row, std::span<Cell> cells) {
  const Screen::Text& text = screen.text;
  const bool below = row >= text.split_row;
  const uint64_t start = below ? (row - text.split_row) * screen.line_bytes
                               : screen.start_bytes + row * screen.line_bytes;
  std::array<std::byte, kMaxColumns * kPlanes> planes;
  const auto used = std::span(planes).first(std::min<size_t>(cells.size(), kMaxColumns) * kPlanes);
  vram.load(start, screen.wrap_bytes, used);
  for (size_t i = 0; i < used.size() / kPlanes; ++i) {
    cells[i] = load_le<uint16_t>(used.subspan(i * kPlanes));
    const uint64_t position = (start / kPlanes + i) % (screen.wrap_bytes / kPlanes);
    if (text.cursor.visible && position == text.cursor.position) cells[i] |= kCursorCell;
  }
}

void draw_cell(const Screen& screen, const Glyphs& glyphs, Cell cell, uint32_t column, uint32_t row,
               display::Picture& picture) {
  const Screen::Text& text = screen.text;
  const auto character = static_cast<uint8_t>(cell);
  const auto attribute = static_cast<uint8_t>(cell >> 8);
  const uint32_t foreground = screen.colors[attribute & 0x0f];
  const uint32_t background = screen.colors[attribute >> 4 & (text.blink ? 0x07 : 0x0f)];
  const size_t glyph = (size_t{attribute >> 3 & 1u} * 256 + character) * kGlyphBytes;
  for (uint32_t y = 0; y < text.cell_height; ++y) {
    const uint32_t line = y / text.line_repeat;
    const bool cursor = (cell & kCursorCell) != 0 && line >= text.cursor.first_line &&
                        line <= text.cursor.last_line;
    const uint32_t lit = cursor ? ~0u : dots(text, character, glyphs[glyph + line]);
    const size_t first =
        size_t{row * text.cell_height + y} * picture.width + size_t{column} * text.cell_width;
    for (uint32_t x = 0; x < text.cell_width; ++x) {
      const bool is_lit = (lit >> (text.cell_width - 1 - x) & 1) != 0;
      picture.pixels[first + x] = is_lit ? foreground : background;
    }
  }
}

}  // namespace wick::devices::vga
