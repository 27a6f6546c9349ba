// Bochs' display interface, and BAR 2.
#include <gtest/gtest.h>

#include <array>

#include "devices/vga/edid.h"
#include "tests/devices/vga/fixture.h"

namespace wick::devices {
namespace {

class VgaDisplay : public VgaTest {
 protected:
  uint64_t bar(uint64_t offset, size_t width) {
    return fakes::read_register(registers_, offset, width);
  }
  void set_bar(uint64_t offset, uint64_t value, size_t width) {
    fakes::write_register(registers_, offset, value, width);
  }
  BusDevice& find(uint64_t address) {
    uint64_t offset = 0;
    BusDevice* device = card_.function().find(address, 1, offset);
    EXPECT_NE(device, nullptr);
    return *device;
  }
  VgaDisplay() { out(0x3c2, 0x67); }

  uint64_t next_ = 0xc0000000;
  BusDevice& memory_ =
      (card_.function().place_bars({0xc0000000, 0x10000000}, next_, 0), find(0xc0000000));
  BusDevice& registers_ = find(0xc0000000 + kVramBytes);
};

TEST_F(VgaDisplay, HasAVersionThatADriverMayLower) {
  EXPECT_EQ(display(vga::kDisplayId), 0xb0c5);
  set_display(vga::kDisplayId, 0xb0c0);
  EXPECT_EQ(display(vga::kDisplayId), 0xb0c0);
  set_display(vga::kDisplayId, 0xb0c6);
  EXPECT_EQ(display(vga::kDisplayId), 0xb0c0);
  EXPECT_EQ(display(vga::kVideoMemory64K), kVramBytes / 65536);
  EXPECT_EQ(display(0x17), 0);
  EXPECT_EQ(display(0xffff), 0);
}

TEST_F(VgaDisplay, SetsAMode) {
  set_mode(800, 600, 32);
  EXPECT_EQ(display(vga::kEnable), 0x41);
  EXPECT_EQ(display(vga::kVirtualWidth), 800);
  EXPECT_EQ(display(vga::kVirtualHeight), kVramBytes / 3200);
  screen_on();
  EXPECT_EQ(drawn().width, 800u);
  EXPECT_EQ(drawn().height, 600u);
}

TEST_F(VgaDisplay, ClearsTheMemoryUnlessToldNotTo) {
  vram()[0] = vram()[800 * 4 * 600 - 1] = vram()[800 * 4 * 600] = 1;
  set_mode(800, 600, 32, 0xc1);
  EXPECT_EQ(vram()[0], 1);
  set_mode(800, 600, 32, 0x41);
  EXPECT_EQ(vram()[0], 0);
  EXPECT_EQ(vram()[800 * 4 * 600 - 1], 0);
  EXPECT_EQ(vram()[800 * 4 * 600], 1) << "not of this mode";
}

TEST_F(VgaDisplay, TellsItsLimits) {
  set_display(vga::kEnable, 0x02);
  EXPECT_EQ(display(vga::kWidth), 4096);
  EXPECT_EQ(display(vga::kHeight), 4096);
  EXPECT_EQ(display(vga::kBitsPerPixel), 32);
  set_display(vga::kWidth, 640);
  set_display(vga::kEnable, 0x00);
  EXPECT_EQ(display(vga::kWidth), 640);
}

TEST_F(VgaDisplay, DoesNotEnterModesThatItDoesNotHave) {
  struct Case {
    uint16_t width, height, bits;
  };
  for (const auto [width, height, bits] :
       {Case{1024, 1025, 32}, Case{0, 480, 32}, Case{640, 0, 32}, Case{640, 480, 12},
        Case{4104, 16, 8}, Case{16, 4097, 8}, Case{4096, 4096, 4}, Case{0xffff, 0xffff, 32}}) {
    set_mode(width, height, bits);
    EXPECT_EQ(display(vga::kEnable), 0x40) << width << "x" << height << "x" << bits;
  }
  set_mode(1024, 1024, 32);
  EXPECT_EQ(display(vga::kEnable), 0x41) << "all of the video memory";
  set_mode(640, 480, 0);
  EXPECT_EQ(display(vga::kBitsPerPixel), 8) << "as the oldest version had it";
}

TEST_F(VgaDisplay, RefusesChangesThatDoNotFit) {
  set_mode(1024, 768, 32);
  set_display(vga::kVirtualWidth, 2048);
  EXPECT_EQ(display(vga::kVirtualWidth), 1024) << "768 lines of 8 KiB do not fit";
  set_display(vga::kHeight, 1025);
  EXPECT_EQ(display(vga::kHeight), 768);
  set_display(vga::kBitsPerPixel, 7);
  EXPECT_EQ(display(vga::kBitsPerPixel), 32);
  set_display(vga::kOffsetY, 256);
  EXPECT_EQ(display(vga::kOffsetY), 256);
  set_display(vga::kOffsetY, 257);
  EXPECT_EQ(display(vga::kOffsetY), 0);
}

// A driver that flips between pictures writes the offsets one after the other.
TEST_F(VgaDisplay, TakesOffsetsInAnyOrder) {
  set_mode(640, 480, 32);
  set_display(vga::kVirtualWidth, 1024);
  set_display(vga::kOffsetY, 544);
  set_display(vga::kOffsetX, 384);
  EXPECT_EQ(display(vga::kOffsetX), 384);
  EXPECT_EQ(display(vga::kOffsetY), 544) << "the last pixel is the last of the memory";
  set_display(vga::kOffsetX, 385);
  EXPECT_EQ(display(vga::kOffsetX), 385);
  EXPECT_EQ(display(vga::kOffsetY), 0);
  set_display(vga::kOffsetY, 100);
  EXPECT_EQ(display(vga::kOffsetY), 100);
}

TEST_F(VgaDisplay, EnablingBeginsAtTheFirstPixel) {
  set_mode(640, 480, 32);
  set_display(vga::kOffsetX, 16);
  set_display(vga::kOffsetY, 16);
  set_display(vga::kVirtualWidth, 800);
  set_mode(640, 480, 32);
  EXPECT_EQ(display(vga::kOffsetX), 0);
  EXPECT_EQ(display(vga::kOffsetY), 0);
  EXPECT_EQ(display(vga::kVirtualWidth), 640);
}

TEST_F(VgaDisplay, TakesWidthsThatAreNoMultipleOf8) {
  set_mode(1366, 700, 32);
  EXPECT_EQ(display(vga::kWidth), 1366);
  set_mode(1366, 700, 4);
  EXPECT_EQ(display(vga::kWidth), 1360) << "the planes have eight pixels per byte";
}

TEST_F(VgaDisplay, HasItsRegistersInBar2) {
  EXPECT_EQ(bar(0x500, 2), 0xb0c5u);
  set_bar(0x506, 32, 2);
  set_bar(0x502, 0x0258'0320, 4);  // two registers
  set_bar(0x508, 0x41, 2);
  EXPECT_EQ(display(vga::kEnable), 0x41);
  EXPECT_EQ(bar(0x502, 4), 0x0258'0320u);
  EXPECT_EQ(bar(0x514, 2), kVramBytes / 65536);
  EXPECT_EQ(bar(0x516, 2), 0u);
  set_bar(0x513, 0xffff, 2);  // crooked
  set_bar(0x515, 0xff, 1);
  EXPECT_EQ(display(vga::kOffsetY), 0);
}

TEST_F(VgaDisplay, HasTheVgasPortsInBar2) {
  set_bar(0x402, 0x67, 1);
  EXPECT_EQ(in(0x3cc), 0x67u);
  set_bar(0x414, 0x5a0d, 2);
  EXPECT_EQ(bar(0x415, 1), 0x5au);
  bar(0x41a, 1);
  set_bar(0x400, 0x20, 1);
  EXPECT_EQ(in(0x3c0), 0x20u);
  EXPECT_EQ(bar(0x41f, 2) >> 8, 0u) << "past the ports";
  set_bar(0x41f, 0xffff, 2);
}

TEST_F(VgaDisplay, HasExtendedRegisters) {
  EXPECT_EQ(bar(0x600, 4), 8u);
  EXPECT_EQ(bar(0x604, 4), 0x1e1e1e1eu);
  set_bar(0x604, 0xbebebebe, 4);
  EXPECT_EQ(bar(0x604, 4), 0xbebebebeu);
  set_bar(0x604, 0x12345678, 4);
  EXPECT_EQ(bar(0x604, 4), 0xbebebebeu);
  set_bar(0x600, 0x1e1e1e1e, 4);
  EXPECT_EQ(bar(0x604, 4), 0xbebebebeu);
  set_bar(0x604, 0x1e1e1e1e, 4);
  EXPECT_EQ(bar(0x604, 4), 0x1e1e1e1eu);
  EXPECT_EQ(bar(0x608, 8), 0u);
  EXPECT_EQ(bar(0xff8, 8), 0u);
}

TEST_F(VgaDisplay, HasItsMemoryInBar0) {
  for (const size_t width : fakes::kWidths) {
    fakes::write_register(memory_, 0x1235, 0x8877665544332211, width);
    EXPECT_EQ(fakes::read_register(memory_, 0x1235, width),
              0x8877665544332211 & fakes::all_ones(width));
  }
  EXPECT_EQ(vram()[0x1236], 0x22);
  fakes::write_register(memory_, kVramBytes - 8, ~0ull, 8);
  EXPECT_EQ(fakes::read_register(memory_, kVramBytes - 8, 8), ~0ull);
  EXPECT_EQ(vram()[0], 0);
}

// VESA E-EDID 1.4, 3.1 to 3.11. edid-decode --check finds no fault in it.
TEST_F(VgaDisplay, HasAMonitorThatPrefers1280x800) {
  std::array<uint8_t, 128> edid{};
  for (size_t i = 0; i < edid.size(); ++i) edid[i] = static_cast<uint8_t>(bar(i, 1));
  uint8_t sum = 0;
  for (const uint8_t byte : edid) sum = static_cast<uint8_t>(sum + byte);
  EXPECT_EQ(sum, 0);
  EXPECT_EQ(load_le<uint64_t>(std::as_bytes(std::span(edid))), 0x00ffffffffffff00u);
  EXPECT_EQ(edid[0x12], 1);
  EXPECT_EQ(edid[0x13], 4);
  EXPECT_EQ(edid[54 + 2] | (edid[54 + 4] & 0xf0) << 4, 1280);
  EXPECT_EQ(edid[54 + 5] | (edid[54 + 7] & 0xf0) << 4, 800);
  EXPECT_EQ(edid[126], 0) << "no extensions";
  EXPECT_EQ(bar(128, 8), 0u);
  EXPECT_EQ(bar(0x3f8, 8), 0u);
}

TEST_F(VgaDisplay, PortsTakeAccessesOfAllWidths) {
  for (const uint16_t port : std::to_array<uint16_t>({0x1ce, 0x1cf, 0x1d0, 0x1d1}))
    for (const size_t width : {1u, 2u}) {
      if (port + width > 0x1d2) continue;
      out(port, 0, width);
      (void)in(port, width);
    }
  out(0x1ce, vga::kDisplayId, 2);
  EXPECT_EQ(in(0x1d0, 2), 0xb0c5u) << "data, for guests that cannot access odd ports";
  EXPECT_EQ(in(0x1ce, 2), vga::kDisplayId);
}

}  // namespace
}  // namespace wick::devices
