#include "devices/vga/lines.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bytes.h"

namespace wick::devices::vga {

namespace {

using Kind = Screen::Kind;

constexpr uint32_t kDotsPerGroup = 8;  // dots in one byte of each plane
constexpr uint32_t kGroupBytes = 4;

uint32_t from_5_bits(uint32_t value) { return value << 3 | value >> 2; }
uint32_t from_6_bits(uint32_t value) { return value << 2 | value >> 4; }

// Returns the colour of a pixel of 15 bits. The lower three bits of each component are 0, as in
// QEMU's pictures.
uint32_t from_15(uint16_t value) {
  return (value & 0x7c00u) << 9 | (value & 0x03e0u) << 6 | (value & 0x001fu) << 3;
}
// Returns the colour of a pixel of 16 bits. The upper bits of each component are repeated in the
// lower ones, as in QEMU's pictures.
uint32_t from_16(uint16_t value) {
  return from_5_bits(value >> 11) << 16 | from_6_bits(value >> 5 & 0x3f) << 8 |
         from_5_bits(value & 0x1f);
}

uint32_t direct_bytes(uint32_t bits_per_pixel) { return (bits_per_pixel + 7) / 8; }

}  // namespace

LinePainter::LinePainter(const Screen& screen, const Vram& vram) : screen_(screen), vram_(vram) {
  if (screen.kind == Kind::kDirect) {
    source_.resize(size_t{screen.width} * direct_bytes(screen.lines.bits_per_pixel));
    return;
  }
  const size_t dots = screen.width / screen.lines.dot_repeat + screen.lines.pan_dots;
  if (screen.kind == Kind::kBytes) {
    source_.resize(dots);
    dots_.resize(dots);
  } else {
    const size_t groups = (dots + kDotsPerGroup - 1) / kDotsPerGroup;
    source_.resize(groups * kGroupBytes);
    dots_.resize(groups * kDotsPerGroup);
  }
}

uint64_t LinePainter::address(uint32_t y) const {
  const Screen::Lines& lines = screen_.lines;
  const bool below = y >= lines.split_line;
  const uint32_t scan_line = below ? (y - lines.split_line) / lines.line_repeat
                                   : y / lines.line_repeat + lines.preset_row_scan;
  const uint32_t row = scan_line / lines.row_lines;
  const uint32_t row_scan = scan_line % lines.row_lines;
  uint64_t address = (below ? 0 : screen_.start_bytes) + row * screen_.line_bytes;
  const auto replace = [&address](uint64_t bit, bool set) {
    if (bit != 0) address = (address & ~bit) | (set ? bit : 0);
  };
  replace(lines.cga_bank, (row_scan & 1) != 0);
  replace(lines.hercules_bank, (row_scan & 2) != 0);
  return address;
}

void LinePainter::draw(uint32_t y, std::span<uint32_t> pixels) {
  vram_.load(address(y), screen_.wrap_bytes, source_);
  const Screen::Lines& lines = screen_.lines;
  switch (screen_.kind) {
    case Kind::kPlanar:
      convert_planar();
      break;
    case Kind::kInterleaved:
      convert_interleaved();
      break;
    case Kind::kBytes:
      convert_bytes();
      break;
    default:
      convert_direct(pixels);
      return;
  }
  const bool panned = y < lines.split_line || !lines.pan_only_top;
  size_t dot = panned ? lines.pan_dots : 0;
  for (size_t i = 0; i < pixels.size(); ++dot)
    for (uint32_t n = 0; n < lines.dot_repeat && i < pixels.size(); ++n) pixels[i++] = dots_[dot];
}

void LinePainter::convert_planar() {
  for (size_t i = 0; i < dots_.size(); i += kDotsPerGroup) {
    const auto planes = load_le<uint32_t>(std::span(source_).subspan(i / 2, kGroupBytes));
    for (uint32_t dot = 0; dot < kDotsPerGroup; ++dot) {
      const uint32_t bits = planes >> (7 - dot);
      const uint32_t index = (bits & 1) | (bits >> 7 & 2) | (bits >> 14 & 4) | (bits >> 21 & 8);
      dots_[i + dot] = screen_.colors[index & screen_.lines.planes];
    }
  }
}

// "Graphics Mode", shift register mode: four dots from planes 0 and 2, then four from 1 and 3. The
// lower plane has the lower two bits.
void LinePainter::convert_interleaved() {
  for (size_t i = 0; i < dots_.size(); i += kDotsPerGroup) {
    const auto planes = load_le<uint32_t>(std::span(source_).subspan(i / 2, kGroupBytes));
    for (uint32_t dot = 0; dot < kDotsPerGroup; ++dot) {
      const uint32_t bits = planes >> (dot / 4 * 8 + 6 - dot % 4 * 2);
      const uint32_t index = (bits & 3) | (bits >> 14 & 0x0c);
      dots_[i + dot] = screen_.colors[index & screen_.lines.planes];
    }
  }
}

void LinePainter::convert_bytes() {
  for (size_t i = 0; i < dots_.size(); ++i)
    dots_[i] = screen_.colors[std::to_integer<uint8_t>(source_[i])];
}

void LinePainter::convert_direct(std::span<uint32_t> pixels) const {
  const uint32_t bits = screen_.lines.bits_per_pixel;
  const bool swapped = screen_.lines.big_endian;
  if (bits == 32) {
    std::memcpy(pixels.data(), source_.data(), source_.size());
    for (uint32_t& pixel : pixels) pixel = (swapped ? std::byteswap(pixel) : pixel) & 0x00ffffff;
    return;
  }
  const uint32_t bytes = direct_bytes(bits);
  for (size_t i = 0; i < pixels.size(); ++i) {
    const auto source = std::span(source_).subspan(i * bytes, bytes);
    if (bits == 24) {
      const auto value = load_le<uint32_t>(source);
      pixels[i] = swapped ? std::byteswap(value) >> 8 : value;
    } else {
      auto value = load_le<uint16_t>(source);
      if (swapped) value = std::byteswap(value);
      pixels[i] = bits == 15 ? from_15(value) : from_16(value);
    }
  }
}

}  // namespace wick::devices::vga
