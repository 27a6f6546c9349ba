// Draws the lines of graphics modes.
//
// Thread rule: one thread at a time for each object.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "devices/vga/screen.h"
#include "devices/vga/vram.h"

namespace wick::devices::vga {

class LinePainter {
 public:
  // `screen` and `vram` must outlive the painter. The screen is neither blank nor text.
  LinePainter(const Screen& screen, const Vram& vram);

  // The video memory that a line shows: address() is where it begins, source_bytes() its size. The
  // memory may wrap around at the screen's wrap_bytes.
  uint64_t address(uint32_t y) const;
  uint64_t source_bytes() const { return source_.size(); }

  // Draws line `y`. `pixels` has one element per pixel of the line.
  void draw(uint32_t y, std::span<uint32_t> pixels);

 private:
  void convert_planar();
  void convert_interleaved();
  void convert_bytes();
  void convert_direct(std::span<uint32_t> pixels) const;

  const Screen& screen_;
  const Vram& vram_;
  std::vector<std::byte> source_;
  std::vector<uint32_t> dots_;  // modes with a palette: all dots, also those that panning hides
};

}  // namespace wick::devices::vga
