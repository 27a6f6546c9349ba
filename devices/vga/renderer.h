// Draws screens into pictures: a whole screen, or only what has changed since the last update.
//
// Thread rule: any thread calls draw(); one thread at a time uses a Renderer. The guest may write
// the video memory meanwhile. What it writes during a call is drawn by this call or the next one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "devices/vga/screen.h"
#include "devices/vga/text.h"
#include "devices/vga/vram.h"
#include "display/picture.h"

namespace wick::devices::vga {

// Gives the picture the screen's size and draws all of it.
void draw(const Screen& screen, const Vram& vram, display::Picture& picture);

class Renderer {
 public:
  // Makes the next update() draw everything.
  void forget() { last_.reset(); }

  // Draws what has changed, and returns the changed rectangles. `picture` must be the same as in
  // the call before. `written` has a bit for each page that was written since the call before.
  std::vector<display::Rectangle> update(const Screen& screen, const Vram& vram,
                                         std::span<const uint64_t> written,
                                         display::Picture& picture);

 private:
  bool needs_all(const Screen& screen, const display::Picture& picture) const;
  std::vector<display::Rectangle> update_text(const Screen& screen, const Vram& vram, bool all,
                                              display::Picture& picture);

  std::optional<Screen> last_;
  Glyphs glyphs_ = {};
  std::vector<Cell> cells_;
};

}  // namespace wick::devices::vga
