// A VGA card as its guest and its viewer see it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "devices/vga/bochs_display.h"
#include "devices/vga/vga.h"
#include "tests/fakes/registers.h"

namespace wick::devices {

// A log of pages that the guest has written directly.
class FakeDirtyPages final : public DirtyPages {
 public:
  void set_logging(bool on) override { logging = on; }
  void take(std::span<uint64_t> bits) override {
    for (const uint64_t page : pages) bits[page / 64] |= uint64_t{1} << page % 64;
    pages.clear();
    ++taken;
  }

  bool logging = false;
  int taken = 0;
  std::set<uint64_t> pages;
};

class VgaTest : public testing::Test {
 protected:
  static constexpr uint64_t kVramBytes = 4 << 20;

  // --- the guest ---
  uint64_t in(uint16_t port, size_t width = 1) {
    for (const auto& range : card_.port_ranges())
      if (port >= range.first && port + width <= size_t{range.first} + range.ports)
        return fakes::read_register(*range.device, port - range.first, width);
    ADD_FAILURE() << "no port " << port;
    return 0;
  }
  void out(uint16_t port, uint64_t value, size_t width = 1) {
    for (const auto& range : card_.port_ranges())
      if (port >= range.first && port + width <= size_t{range.first} + range.ports)
        return fakes::write_register(*range.device, port - range.first, value, width);
    ADD_FAILURE() << "no port " << port;
  }
  // An index and its data in one access.
  void indexed(uint16_t port, uint8_t index, uint8_t value) {
    out(port, uint64_t{value} << 8 | index, 2);
  }
  void sequencer(uint8_t index, uint8_t value) { indexed(0x3c4, index, value); }
  void graphics(uint8_t index, uint8_t value) { indexed(0x3ce, index, value); }
  void crtc(uint8_t index, uint8_t value) { indexed(0x3d4, index, value); }
  void attribute(uint8_t index, uint8_t value) {
    in(0x3da);
    out(0x3c0, index);
    out(0x3c0, value);
  }
  void screen_on() {
    in(0x3da);
    out(0x3c0, 0x20);
  }
  void color(uint8_t index, uint8_t red, uint8_t green, uint8_t blue) {
    out(0x3c8, index);
    out(0x3c9, red);
    out(0x3c9, green);
    out(0x3c9, blue);
  }
  uint16_t display(uint16_t index) {
    out(0x1ce, index, 2);
    return static_cast<uint16_t>(in(0x1cf, 2));
  }
  void set_display(uint16_t index, uint16_t value) {
    out(0x1ce, index, 2);
    out(0x1cf, value, 2);
  }
  // As Linux's bochs-drm does it.
  void set_mode(uint16_t width, uint16_t height, uint16_t bits, uint16_t flags = 0x41) {
    set_display(vga::kEnable, 0);
    set_display(vga::kBitsPerPixel, bits);
    set_display(vga::kWidth, width);
    set_display(vga::kHeight, height);
    set_display(vga::kEnable, flags);
  }

  uint8_t peek(uint64_t address) {  // from 0xa0000
    return static_cast<uint8_t>(fakes::read_register(card_.window(), address - 0xa0000, 1));
  }
  void poke(uint64_t address, uint8_t value) {
    fakes::write_register(card_.window(), address - 0xa0000, value, 1);
  }

  // The video memory, as a guest with BAR 0 in a slot of KVM changes it.
  std::span<uint8_t> vram() { return {reinterpret_cast<uint8_t*>(words_.data()), kVramBytes}; }
  void write_directly(uint64_t address, std::initializer_list<uint8_t> bytes) {
    for (const uint8_t byte : bytes) {
      vram()[address] = byte;
      dirty_.pages.insert(address++ / 4096);
    }
  }

  // Modes as a BIOS sets them; only the registers that matter.
  void set_common() {
    out(0x3c2, 0x67);
    for (uint8_t i = 0; i < 16; ++i) {
      attribute(i, i);
      color(i, i, static_cast<uint8_t>(2 * i), static_cast<uint8_t>(3 * i));
    }
    attribute(0x12, 0x0f);
    attribute(0x13, 0);
    attribute(0x14, 0);
    crtc(0x11, 0x0c);
    crtc(0x07, 0x1f);
    crtc(0x08, 0);
    crtc(0x0c, 0);
    crtc(0x0d, 0);
    crtc(0x18, 0xff);
    graphics(3, 0);
    graphics(1, 0);
    graphics(8, 0xff);
  }
  // Text with 80 columns, 9 dots and 16 lines.
  void set_text() {
    set_common();
    sequencer(1, 0x00);
    sequencer(2, 0x03);
    sequencer(3, 0x00);
    sequencer(4, 0x02);
    graphics(4, 0);
    graphics(5, 0x10);
    graphics(6, 0x0e);
    crtc(0x01, 79);
    crtc(0x09, 0x4f);
    crtc(0x0a, 0x20);
    crtc(0x0b, 15);
    crtc(0x12, 0x8f);
    crtc(0x13, 40);
    crtc(0x17, 0xa3);
    attribute(0x10, 0x0c);
    attribute(0x13, 8);
    screen_on();
  }
  // 640x480, 16 colours.
  void set_planar() {
    set_common();
    sequencer(1, 0x01);
    sequencer(2, 0x0f);
    sequencer(4, 0x06);
    graphics(5, 0x00);
    graphics(6, 0x05);
    crtc(0x01, 79);
    crtc(0x07, 0x3e);
    crtc(0x09, 0x40);
    crtc(0x12, 0xdf);
    crtc(0x13, 40);
    crtc(0x17, 0xe3);
    attribute(0x10, 0x01);
    screen_on();
  }
  // 320x200, 256 colours.
  void set_mode_13h() {
    set_common();
    sequencer(1, 0x01);
    sequencer(2, 0x0f);
    sequencer(4, 0x0e);
    graphics(5, 0x40);
    graphics(6, 0x05);
    crtc(0x01, 79);
    crtc(0x09, 0x41);
    crtc(0x12, 0x8f);
    crtc(0x13, 40);
    crtc(0x14, 0x40);
    crtc(0x17, 0xa3);
    attribute(0x10, 0x41);
    screen_on();
  }
  // 320x200, 4 colours, as on a CGA.
  void set_mode_4() {
    set_common();
    sequencer(1, 0x09);
    sequencer(2, 0x03);
    sequencer(4, 0x02);
    graphics(5, 0x30);
    graphics(6, 0x0f);
    crtc(0x01, 39);
    crtc(0x09, 0xc1);
    crtc(0x12, 0x8f);
    crtc(0x13, 20);
    crtc(0x17, 0xa2);
    attribute(0x10, 0x01);
    attribute(0x12, 0x03);
    screen_on();
  }
  // The pattern of one line of a character in the first map.
  void set_glyph(uint8_t character, size_t line, uint8_t pattern, size_t map = 0) {
    vram()[(map * 8192 + character * 32u + line) * 4 + 2] = pattern;
  }
  void put_cell(uint32_t index, uint8_t character, uint8_t attributes) {
    poke(0xb8000 + 2 * index, character);
    poke(0xb8001 + 2 * index, attributes);
  }

  // --- the viewer ---
  const display::Picture& drawn() {
    card_.draw(picture_);
    EXPECT_EQ(picture_.pixels.size(), size_t{picture_.width} * picture_.height);
    return picture_;
  }
  uint32_t pixel(uint32_t x, uint32_t y) const {
    return picture_.pixels.at(size_t{y} * picture_.width + x);
  }
  static uint32_t shade(uint32_t i) {  // the colours of set_common()
    const auto wide = [](uint32_t v) { return (v & 63) << 2 | (v & 1) * 3; };
    return wide(i) << 16 | wide(2 * i) << 8 | wide(3 * i);
  }

  std::vector<uint64_t> words_ = std::vector<uint64_t>(kVramBytes / 8);
  FakeDirtyPages dirty_;
  std::vector<std::pair<uint64_t, uint64_t>> moves_;
  Vga card_{std::as_writable_bytes(std::span(words_)), dirty_,
            [this](uint64_t from, uint64_t to) { moves_.emplace_back(from, to); }};
  display::Picture picture_;
};

}  // namespace wick::devices
