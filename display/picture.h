// The picture on a guest's screen, and the interface of the graphics cards that draw it.
#pragma once

#include <cstdint>
#include <vector>

namespace wick::display {

struct Rectangle {
  uint32_t x = 0, y = 0;  // the upper left corner
  uint32_t width = 0, height = 0;
  bool operator==(const Rectangle&) const = default;
};

struct Picture {
  // A limit for all graphics cards.
  static constexpr uint32_t kMaxWidth = 4096, kMaxHeight = 4096;

  uint32_t width = 0, height = 0;
  std::vector<uint32_t> pixels = {};  // 0x00RRGGBB, row by row from the top, without gaps
};

// A graphics card.
//
// Thread rule: any thread, one at a time for watch() and update(); locks itself.
class Source {
 public:
  virtual ~Source() = default;

  // Draws the whole screen. The call has no effect on update().
  virtual void draw(Picture& picture) = 0;

  // Tells the card whether someone looks at the screen continuously. While nobody looks, the card
  // does not find out which parts of its memory the guest changes. After each call, the first
  // update() draws the whole screen.
  virtual void watch(bool watched) = 0;
  // Draws what has changed since the previous call, and returns the changed rectangles. The caller
  // must pass the same picture each time. If the picture's size changes, all of it is redrawn, and
  // the returned rectangle covers all of it.
  virtual std::vector<Rectangle> update(Picture& picture) = 0;
};

}  // namespace wick::display
