// Pictures of graphics modes.
#include <gtest/gtest.h>

#include "tests/devices/vga/fixture.h"

namespace wick::devices {
namespace {

TEST_F(VgaTest, PlanarModeHasABitInEachPlane) {
  set_planar();
  EXPECT_EQ(drawn().width, 640u);
  EXPECT_EQ(drawn().height, 480u);
  // Eight pixels with the colours 8 to 15, in line 2.
  const std::array<uint8_t, 4> planes = {0x55, 0x33, 0x0f, 0xff};
  for (uint8_t plane = 0; plane < 4; ++plane) {
    sequencer(2, static_cast<uint8_t>(1 << plane));
    poke(0xa0000 + 160 + 79, planes[plane]);
  }
  drawn();
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(pixel(632 + i, 2), shade(8 + i)) << i;
  EXPECT_EQ(pixel(631, 2), shade(0));
  attribute(0x12, 0x09);
  screen_on();
  drawn();
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(pixel(632 + i, 2), shade(8 + i % 2)) << i;
}

TEST_F(VgaTest, PlanarModeWithHalfTheClockDoublesDots) {
  set_planar();
  sequencer(1, 0x09);
  crtc(0x01, 39);
  crtc(0x09, 0xc0);
  crtc(0x12, 0x8f);
  crtc(0x07, 0x1f);
  crtc(0x13, 20);
  poke(0xa0000 + 40, 0x40);
  EXPECT_EQ(drawn().width, 640u);
  EXPECT_EQ(drawn().height, 400u);
  for (const uint32_t y : {2u, 3u}) {
    EXPECT_EQ(pixel(1, y), shade(0));
    EXPECT_EQ(pixel(2, y), shade(15));
    EXPECT_EQ(pixel(3, y), shade(15));
    EXPECT_EQ(pixel(4, y), shade(0));
  }
  EXPECT_EQ(pixel(2, 1), shade(0));
  EXPECT_EQ(pixel(2, 4), shade(0));
}

TEST_F(VgaTest, PansByPixels) {
  set_planar();
  poke(0xa0000, 0x10);
  poke(0xa0050, 0x01);  // the byte after the end of the first line
  attribute(0x13, 3);
  screen_on();
  drawn();
  EXPECT_EQ(pixel(0, 0), shade(15));
  EXPECT_EQ(pixel(1, 0), shade(0));
  poke(0xa0050, 0x20);
  drawn();
  EXPECT_EQ(pixel(639, 0), shade(15));
  attribute(0x13, 8);
  screen_on();
  drawn();
  EXPECT_EQ(pixel(3, 0), shade(15)) << "8 is none";
}

TEST_F(VgaTest, SplitsTheScreenAndPansOnlyAbove) {
  set_planar();
  crtc(0x0c, 0x10);  // 0x1000
  crtc(0x18, 99);
  crtc(0x07, 0x2e);
  crtc(0x09, 0x00);
  poke(0xa0000, 0x80);
  poke(0xa1000, 0x40);
  attribute(0x13, 1);
  attribute(0x10, 0x21);
  screen_on();
  drawn();
  EXPECT_EQ(pixel(0, 0), shade(15)) << "panned by one";
  EXPECT_EQ(pixel(0, 100), shade(15)) << "from address 0, not panned";
  EXPECT_EQ(pixel(0, 99), shade(0));
  EXPECT_EQ(pixel(0, 101), shade(0));
  attribute(0x10, 0x01);
  screen_on();
  drawn();
  EXPECT_EQ(pixel(0, 100), shade(0)) << "panned as well";
}

TEST_F(VgaTest, AddressesWrapAroundAtTheEndOfThePlanes) {
  set_planar();
  crtc(0x0c, 0xff);
  crtc(0x0d, 0xff);
  poke(0xaffff, 0x01);
  poke(0xa0000, 0x80);
  drawn();
  EXPECT_EQ(pixel(7, 0), shade(15));
  EXPECT_EQ(pixel(8, 0), shade(15));
}

TEST_F(VgaTest, Mode13hHas320By200DoubledPixels) {
  set_mode_13h();
  color(200, 1, 2, 3);
  color(201, 63, 0, 0);
  poke(0xa0000 + 320 * 199 + 319, 200);
  poke(0xa0000, 201);
  EXPECT_EQ(drawn().width, 640u);
  EXPECT_EQ(drawn().height, 400u);
  for (const uint32_t x : {638u, 639u})
    for (const uint32_t y : {398u, 399u}) EXPECT_EQ(pixel(x, y), 0x07080fu);
  EXPECT_EQ(pixel(637, 399), shade(0));
  EXPECT_EQ(pixel(639, 397), shade(0));
  EXPECT_EQ(pixel(1, 1), 0xff0000u);
}

TEST_F(VgaTest, Mode13hPansByPairs) {
  set_mode_13h();
  poke(0xa0003, 5);
  attribute(0x13, 6);
  screen_on();
  drawn();
  EXPECT_EQ(pixel(0, 0), shade(5));
  EXPECT_EQ(pixel(1, 0), shade(5));
  EXPECT_EQ(pixel(2, 0), shade(0));
}

TEST_F(VgaTest, ModeXHasItsPixelsInFourPlanes) {
  set_mode_13h();
  sequencer(4, 0x06);
  crtc(0x14, 0x00);
  crtc(0x17, 0xe3);
  for (uint8_t x = 0; x < 8; ++x) {
    sequencer(2, static_cast<uint8_t>(1 << x % 4));
    poke(0xa0000u + 80 + x / 4u, static_cast<uint8_t>(x + 1));
  }
  drawn();
  for (uint32_t x = 0; x < 8; ++x) EXPECT_EQ(pixel(2 * x, 2), shade(x + 1));
  crtc(0x0d, 80);  // the second page, as it were
  drawn();
  EXPECT_EQ(pixel(0, 0), shade(1));
}

TEST_F(VgaTest, CgaModesHaveOddLinesInABankOfTheirOwn) {
  set_mode_4();
  poke(0xb8000, 0x1b);       // line 0: colours 0 1 2 3
  poke(0xb8001, 0xe4);       // 3 2 1 0
  poke(0xba000, 0xff);       // line 1
  poke(0xb8000 + 80, 0x55);  // line 2
  EXPECT_EQ(drawn().width, 640u);
  EXPECT_EQ(drawn().height, 400u);
  for (uint32_t i = 0; i < 8; ++i) {
    const uint32_t expected = i < 4 ? i : 7 - i;
    EXPECT_EQ(pixel(2 * i, 0), shade(expected)) << i;
    EXPECT_EQ(pixel(2 * i + 1, 1), shade(expected)) << i;
  }
  EXPECT_EQ(pixel(0, 2), shade(3));
  EXPECT_EQ(pixel(8, 3), shade(0));
  EXPECT_EQ(pixel(0, 4), shade(1));
  EXPECT_EQ(pixel(0, 6), shade(0));
}

TEST_F(VgaTest, CgaModesHaveTwoColors) {
  set_mode_4();
  sequencer(1, 0x01);
  sequencer(2, 0x01);
  sequencer(4, 0x06);
  graphics(5, 0x00);
  graphics(6, 0x0d);
  crtc(0x01, 79);
  crtc(0x13, 40);
  crtc(0x17, 0xc2);
  attribute(0x12, 0x01);
  screen_on();
  poke(0xb8000, 0x80);
  poke(0xba000, 0x40);
  poke(0xb8000 + 80, 0x20);
  EXPECT_EQ(drawn().width, 640u);
  EXPECT_EQ(drawn().height, 400u);
  EXPECT_EQ(pixel(0, 1), shade(1));
  EXPECT_EQ(pixel(1, 2), shade(1));
  EXPECT_EQ(pixel(1, 3), shade(1));
  EXPECT_EQ(pixel(2, 4), shade(1));
  EXPECT_EQ(pixel(0, 2), shade(0));
}

TEST_F(VgaTest, HerculesModesHaveFourBanks) {
  set_planar();
  crtc(0x09, 0x43);
  crtc(0x17, 0xe0);
  poke(0xa2000, 0x80);
  poke(0xa4000, 0x40);
  poke(0xa6000, 0x20);
  poke(0xa0000 + 80, 0x10);
  drawn();
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(pixel(i, i + 1), shade(15)) << i;
  EXPECT_EQ(pixel(0, 0), shade(0));
}

TEST_F(VgaTest, RowsMayBeginWithALaterScanLine) {
  set_mode_13h();
  crtc(0x09, 0x43);  // four lines per row
  poke(0xa0000 + 320, 5);
  drawn();
  EXPECT_EQ(pixel(0, 4), shade(5));
  EXPECT_EQ(pixel(0, 3), shade(0));
  crtc(0x08, 3);
  drawn();
  EXPECT_EQ(pixel(0, 1), shade(5));
  EXPECT_EQ(pixel(0, 0), shade(0));
}

// Whatever the registers say, the picture has a size within the limits.
TEST_F(VgaTest, DrawsWhateverTheRegistersSay) {
  out(0x3c2, 0x67);
  for (uint32_t seed = 1; seed < 60; ++seed) {
    crtc(0x11, 0);
    for (uint8_t i = 0; i < 25; ++i)
      crtc(i, static_cast<uint8_t>(seed < 4 ? 0xff : seed * 97 + i * 31));
    for (uint8_t i = 0; i < 5; ++i) sequencer(i, static_cast<uint8_t>(seed * 13 + i) & 0xdf);
    for (uint8_t i = 0; i < 9; ++i) graphics(i, static_cast<uint8_t>(seed * 11 + i * 7));
    for (uint8_t i = 0; i < 21; ++i) attribute(i, static_cast<uint8_t>(seed * 29 + i));
    screen_on();
    drawn();
    EXPECT_GT(picture_.width, 0u);
    EXPECT_GT(picture_.height, 0u);
    EXPECT_LE(picture_.width, display::Picture::kMaxWidth);
    EXPECT_LE(picture_.height, display::Picture::kMaxHeight);
  }
}

class VgaLinear : public VgaTest {
 protected:
  VgaLinear() {
    out(0x3c2, 0x67);
    screen_on();
  }
  void put(uint64_t address, std::initializer_list<uint8_t> bytes) {
    for (const uint8_t byte : bytes) vram()[address++] = byte;
  }
};

TEST_F(VgaLinear, Has8BitsPerPixelByTheDac) {
  set_mode(640, 480, 8);
  color(7, 1, 33, 62);
  put(640 * 479 + 639, {7});
  drawn();
  EXPECT_EQ(pixel(639, 479), 0x0787f8u);
  set_display(vga::kEnable, 0x61);
  color(7, 0x12, 0x34, 0x56);
  drawn();
  EXPECT_EQ(pixel(639, 479), 0x123456u) << "8 bits per component";
}

TEST_F(VgaLinear, Has15And16BitsPerPixel) {
  set_mode(640, 480, 15);
  put(2, {0x3f, 0x44});  // 10001 00001 11111
  drawn();
  EXPECT_EQ(pixel(1, 0), 0x8808f8u);
  set_mode(640, 480, 16);
  put(2, {0x3f, 0x8c});  // 10001 100001 11111
  drawn();
  EXPECT_EQ(pixel(1, 0), 0x8c86ffu);
}

TEST_F(VgaLinear, Has24And32BitsPerPixel) {
  set_mode(640, 480, 24);
  put(3 * 640, {0x11, 0x22, 0x33, 0x44, 0x55, 0x66});
  drawn();
  EXPECT_EQ(pixel(0, 1), 0x332211u);
  EXPECT_EQ(pixel(1, 1), 0x665544u);
  set_mode(640, 480, 32);
  put(4 * 640, {0x11, 0x22, 0x33, 0x44});
  drawn();
  EXPECT_EQ(pixel(0, 1), 0x332211u);
}

TEST_F(VgaLinear, HasPixelsOfEitherByteOrder) {
  uint64_t next = 0xc0000000;
  card_.function().place_bars({0xc0000000, 0x10000000}, next, 0);
  uint64_t offset = 0;
  BusDevice* registers = card_.function().find(0xc0000000 + kVramBytes, 1, offset);
  ASSERT_NE(registers, nullptr);
  fakes::write_register(*registers, 0x604, 0xbebebebe, 4);
  const auto first = [this] {
    put(0, {0x11, 0x22, 0x33, 0x44});
    drawn();
    return pixel(0, 0);
  };
  set_mode(640, 480, 32);
  EXPECT_EQ(first(), 0x223344u);
  set_mode(640, 480, 24);
  EXPECT_EQ(first(), 0x112233u);
  set_mode(640, 480, 16);
  put(0, {0x8c, 0x3f});
  drawn();
  EXPECT_EQ(pixel(0, 0), 0x8c86ffu);
}

TEST_F(VgaLinear, Has4BitsPerPixelInPlanes) {
  set_common();
  set_mode(800, 600, 4);
  screen_on();
  put(100 * 400 + 4, {0xff, 0x80, 0x00, 0x01});
  EXPECT_EQ(drawn().width, 800u);
  EXPECT_EQ(pixel(8, 100), shade(3));
  EXPECT_EQ(pixel(9, 100), shade(1));
  EXPECT_EQ(pixel(15, 100), shade(9));
  EXPECT_EQ(pixel(16, 100), shade(0));
}

TEST_F(VgaLinear, BeginsAtTheOffsets) {
  set_mode(640, 480, 32);
  set_display(vga::kVirtualWidth, 1000);
  set_display(vga::kOffsetX, 11);
  set_display(vga::kOffsetY, 13);
  put((13 * 1000 + 11) * 4, {1, 2, 3});
  put((492 * 1000 + 650) * 4, {4, 5, 6});
  drawn();
  EXPECT_EQ(pixel(0, 0), 0x030201u);
  EXPECT_EQ(pixel(639, 479), 0x060504u);
}

TEST_F(VgaLinear, ShowsTheLastPixelOfTheMemory) {
  set_mode(1024, 1024, 32);
  put(kVramBytes - 4, {1, 2, 3, 4});
  drawn();
  EXPECT_EQ(pixel(1023, 1023), 0x030201u);
}

TEST_F(VgaLinear, GoesBackToTheVgasMode) {
  set_text();
  set_mode(640, 480, 32);
  screen_on();
  EXPECT_EQ(drawn().height, 480u);
  set_display(vga::kEnable, 0);
  set_text();
  EXPECT_EQ(drawn().height, 400u);
  EXPECT_EQ(drawn().width, 720u);
}

}  // namespace
}  // namespace wick::devices
