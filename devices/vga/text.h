// Draws text. Text consists of cells, each with a character and an attribute; the patterns of the
// characters are in plane 2.
//
// Underlined characters, panning and the preset row scan are not implemented, because hardly any
// program uses them. Cursor and blinking characters are steady, so that equal screens give equal
// pictures.
//
// Thread rule: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "devices/vga/screen.h"
#include "devices/vga/vram.h"
#include "display/picture.h"

namespace wick::devices::vga {

inline constexpr size_t kGlyphBytes = 32;  // a byte per line

// The patterns of two sets of 256 characters. Bit 3 of the attribute selects the set.
using Glyphs = std::array<uint8_t, 2 * 256 * kGlyphBytes>;
Glyphs load_glyphs(const Screen& screen, const Vram& vram);

// The character in bits 0 to 7, its attribute in bits 8 to 15; bit 16 is set where the cursor is.
using Cell = uint32_t;
// Loads the cells of a row. `cells` has one element per column.
void load_cells(const Screen& screen, const Vram& vram, uint32_t row, std::span<Cell> cells);

// Draws a cell. The picture has the size of the screen.
void draw_cell(const Screen& screen, const Glyphs& glyphs, Cell cell, uint32_t column, uint32_t row,
               display::Picture& picture);

}  // namespace wick::devices::vga
