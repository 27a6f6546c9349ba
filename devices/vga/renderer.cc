#include "devices/vga/renderer.h"

#include <algorithm>

#include "devices/vga/dirty_pages.h"
#include "devices/vga/lines.h"

namespace wick::devices::vga {

namespace {

using display::Picture;
using display::Rectangle;
using Kind = Screen::Kind;

Rectangle whole(const Screen& screen) { return {0, 0, screen.width, screen.height}; }

Rectangle united(const Rectangle& a, const Rectangle& b) {
  const uint32_t x = std::min(a.x, b.x);
  const uint32_t y = std::min(a.y, b.y);
  return {x, y, std::max(a.x + a.width, b.x + b.width) - x,
          std::max(a.y + a.height, b.y + b.height) - y};
}

// The changed parts of a picture, added from top to bottom.
class Changes {
 public:
  void add(const Rectangle& change) {
    const bool touches = !found_.empty() && found_.back().y + found_.back().height >= change.y;
    if (touches || found_.size() == kMaxRectangles)
      found_.back() = united(found_.back(), change);
    else
      found_.push_back(change);
  }
  std::vector<Rectangle> take() { return std::move(found_); }

 private:
  static constexpr size_t kMaxRectangles = 64;
  std::vector<Rectangle> found_;
};

bool has_size(const Picture& picture, const Screen& screen) {
  return picture.width == screen.width && picture.height == screen.height &&
         picture.pixels.size() == size_t{screen.width} * screen.height;
}

void resize(const Screen& screen, Picture& picture) {
  if (has_size(picture, screen)) return;
  picture.width = screen.width;
  picture.height = screen.height;
  picture.pixels.assign(size_t{screen.width} * screen.height, 0);
}

std::span<uint32_t> line_of(Picture& picture, uint32_t y) {
  return std::span(picture.pixels).subspan(size_t{y} * picture.width, picture.width);
}

bool is_written(std::span<const uint64_t> written, uint64_t page) {
  return page / 64 < written.size() && (written[page / 64] >> page % 64 & 1) != 0;
}

bool any_written(std::span<const uint64_t> written, uint64_t address, uint64_t size_bytes,
                 uint64_t wrap_bytes) {
  const uint64_t first = address / DirtyPages::kPageBytes;
  const uint64_t last = (address + size_bytes - 1) / DirtyPages::kPageBytes;
  const uint64_t wrap_pages = wrap_bytes / DirtyPages::kPageBytes;
  for (uint64_t page = first; page <= last; ++page)
    if (is_written(written, page % wrap_pages)) return true;
  return false;
}

void draw_lines(const Screen& screen, const Vram& vram, Picture& picture) {
  LinePainter painter(screen, vram);
  for (uint32_t y = 0; y < screen.height; ++y) painter.draw(y, line_of(picture, y));
}

// A written page may also contain lines that the guest has not written, or has written without
// changing them. So each line is compared with the picture.
std::vector<Rectangle> update_lines(const Screen& screen, const Vram& vram,
                                    std::span<const uint64_t> written, Picture& picture) {
  LinePainter painter(screen, vram);
  std::vector<uint32_t> drawn(screen.width);
  Changes changes;
  for (uint32_t y = 0; y < screen.height; ++y) {
    if (!any_written(written, painter.address(y), painter.source_bytes(), screen.wrap_bytes))
      continue;
    painter.draw(y, drawn);
    const auto line = line_of(picture, y);
    const auto first = std::ranges::mismatch(drawn, line).in1 - drawn.begin();
    if (first == static_cast<std::ptrdiff_t>(drawn.size())) continue;
    const auto same_at_end = std::mismatch(drawn.rbegin(), drawn.rend(), line.rbegin()).first;
    const auto end = drawn.rend() - same_at_end;
    std::ranges::copy(drawn, line.begin());
    changes.add({static_cast<uint32_t>(first), y, static_cast<uint32_t>(end - first), 1});
  }
  return changes.take();
}

// Returns true if two screens are equal apart from the cursor. The cursor need not be compared,
// because the cells say where it is.
bool is_same_but_for_cursor(Screen a, const Screen& b) {
  a.text.cursor.visible = b.text.cursor.visible;
  a.text.cursor.position = b.text.cursor.position;
  return a == b;
}

}  // namespace

void draw(const Screen& screen, const Vram& vram, Picture& picture) {
  resize(screen, picture);
  if (screen.kind == Kind::kBlank) {
    std::ranges::fill(picture.pixels, 0);
  } else if (screen.kind != Kind::kText) {
    draw_lines(screen, vram, picture);
  } else {
    const Glyphs glyphs = load_glyphs(screen, vram);
    std::vector<Cell> cells(screen.text.columns);
    for (uint32_t row = 0; row < screen.text.rows; ++row) {
      load_cells(screen, vram, row, cells);
      for (uint32_t column = 0; column < screen.text.columns; ++column)
        draw_cell(screen, glyphs, cells[column], column, row, picture);
    }
  }
}

bool Renderer::needs_all(const Screen& screen, const Picture& picture) const {
  return !last_ || !has_size(picture, screen) || !is_same_but_for_cursor(*last_, screen);
}

std::vector<Rectangle> Renderer::update(const Screen& screen, const Vram& vram,
                                        std::span<const uint64_t> written, Picture& picture) {
  const bool all = needs_all(screen, picture);
  last_ = screen;
  if (screen.kind == Kind::kText) return update_text(screen, vram, all, picture);
  if (all) {
    draw(screen, vram, picture);
    return {whole(screen)};
  }
  if (screen.kind == Kind::kBlank) return {};
  return update_lines(screen, vram, written, picture);
}

std::vector<Rectangle> Renderer::update_text(const Screen& screen, const Vram& vram, bool all,
                                             Picture& picture) {
  resize(screen, picture);
  const Glyphs glyphs = load_glyphs(screen, vram);
  if (glyphs != glyphs_) all = true;
  glyphs_ = glyphs;
  const Screen::Text& text = screen.text;
  cells_.resize(size_t{text.columns} * text.rows);
  std::vector<Cell> cells(text.columns);
  Changes changes;
  for (uint32_t row = 0; row < text.rows; ++row) {
    load_cells(screen, vram, row, cells);
    const auto drawn = std::span(cells_).subspan(size_t{row} * text.columns, text.columns);
    for (uint32_t column = 0; column < text.columns; ++column) {
      if (!all && cells[column] == drawn[column]) continue;
      drawn[column] = cells[column];
      draw_cell(screen, glyphs, cells[column], column, row, picture);
      changes.add(
          {column * text.cell_width, row * text.cell_height, text.cell_width, text.cell_height});
    }
  }
  return changes.take();
}

}  // namespace wick::devices::vga
