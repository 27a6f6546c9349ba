// Pictures of text.
#include <gtest/gtest.h>

#include "tests/devices/vga/fixture.h"

namespace wick::devices {
namespace {

class VgaText : public VgaTest {
 protected:
  VgaText() {
    set_text();
    set_glyph('A', 0, 0x81);
    set_glyph('A', 15, 0x01);
    set_glyph(0xc4, 3, 0xff);
    set_glyph('-', 3, 0xff);
  }
  // The pixels of a line as a string: the colours' indexes in hexadecimal.
  std::string line(uint32_t x, uint32_t y, uint32_t width) {
    std::string text;
    for (uint32_t i = 0; i < width; ++i) {
      uint32_t index = 0;
      while (index < 16 && shade(index) != pixel(x + i, y)) ++index;
      text += "0123456789abcdef?"[index];
    }
    return text;
  }
};

TEST_F(VgaText, Has80By25CharactersOf9By16Pixels) {
  EXPECT_EQ(drawn().width, 720u);
  EXPECT_EQ(drawn().height, 400u);
}

TEST_F(VgaText, DrawsPatternsInTheirColors) {
  put_cell(81, 'A', 0x1e);
  drawn();
  EXPECT_EQ(line(9, 16, 9), "e111111e1");
  EXPECT_EQ(line(9, 17, 9), "111111111");
  EXPECT_EQ(line(9, 31, 9), "1111111e1");
  EXPECT_EQ(line(18, 16, 9), "000000000");
  EXPECT_EQ(line(0, 16, 9), "000000000");
}

TEST_F(VgaText, JoinsTheNinthDotOfLineGraphicsOnly) {
  put_cell(0, 0xc4, 0x07);
  put_cell(1, '-', 0x07);
  drawn();
  EXPECT_EQ(line(0, 3, 18), "777777777777777770");
  attribute(0x10, 0x08);
  screen_on();
  drawn();
  EXPECT_EQ(line(0, 3, 18), "777777770777777770");
}

TEST_F(VgaText, Has8DotsIfTheSequencerSaysSo) {
  sequencer(1, 0x01);
  put_cell(1, 'A', 0x07);
  EXPECT_EQ(drawn().width, 640u);
  EXPECT_EQ(line(8, 0, 8), "70000007");
}

TEST_F(VgaText, Has40ColumnsOfDoubledDots) {
  sequencer(1, 0x08);
  crtc(0x01, 39);
  crtc(0x13, 20);
  put_cell(1, 'A', 0x07);
  put_cell(40, 'A', 0x07);
  EXPECT_EQ(drawn().width, 640u);
  EXPECT_EQ(line(16, 0, 16), "7700000000000077");
  EXPECT_EQ(line(0, 16, 16), "7700000000000077");
}

TEST_F(VgaText, Has50RowsOf8Lines) {
  crtc(0x09, 0x47);
  put_cell(80 * 49, 'A', 0x07);
  EXPECT_EQ(drawn().height, 400u);
  EXPECT_EQ(line(0, 392, 9), "700000070");
}

TEST_F(VgaText, DoublesLines) {
  crtc(0x09, 0xc7);  // 8 lines, each twice
  put_cell(0, 'A', 0x07);
  set_glyph('A', 1, 0x18);
  EXPECT_EQ(drawn().height, 400u);
  EXPECT_EQ(line(0, 0, 9), line(0, 1, 9));
  EXPECT_EQ(line(0, 2, 9), "000770000");
  EXPECT_EQ(line(0, 3, 9), "000770000");
}

TEST_F(VgaText, BlinkingCharactersHaveEightBackgrounds) {
  put_cell(0, 'A', 0x9e);
  drawn();
  EXPECT_EQ(line(0, 0, 9), "e111111e1");
  attribute(0x10, 0x04);
  screen_on();
  drawn();
  EXPECT_EQ(line(0, 0, 9), "e999999e9") << "an intense background";
}

TEST_F(VgaText, HasTwoSetsOfPatterns) {
  put_cell(0, 'A', 0x0f);
  put_cell(1, 'A', 0x07);
  set_glyph('A', 0, 0x3c, 2);  // map 1: at 16 KiB
  set_glyph('A', 0, 0xe7, 1);  // map 4: at 8 KiB
  sequencer(3, 0x04);          // map A is 1, map B is 0
  drawn();
  EXPECT_EQ(line(0, 0, 18), "00ffff000700000070");
  sequencer(3, 0x10 | 0x04);  // map B is 4
  drawn();
  EXPECT_EQ(line(0, 0, 18), "00ffff000777007770");
  sequencer(3, 0x20);  // map A is 4
  drawn();
  EXPECT_EQ(line(0, 0, 18), "fff00fff0700000070");
}

TEST_F(VgaText, ShowsTheCursorSteadily) {
  put_cell(82, 'A', 0x1e);
  crtc(0x0a, 13);
  crtc(0x0b, 14);
  crtc(0x0e, 0);
  crtc(0x0f, 82);
  for (int i = 0; i < 2; ++i) {
    drawn();
    EXPECT_EQ(line(18, 16 + 12, 9), "111111111");
    EXPECT_EQ(line(18, 16 + 13, 9), "eeeeeeeee");
    EXPECT_EQ(line(18, 16 + 14, 9), "eeeeeeeee");
    EXPECT_EQ(line(18, 16 + 15, 9), "1111111e1");
    EXPECT_EQ(line(27, 16 + 14, 9), "000000000");
  }
  crtc(0x0a, 0x20 | 13);
  drawn();
  EXPECT_EQ(line(18, 16 + 13, 9), "111111111") << "off";
  crtc(0x0a, 14);
  crtc(0x0b, 13);
  drawn();
  EXPECT_EQ(line(18, 16 + 13, 9), "111111111") << "ends before it starts";
  crtc(0x0a, 0);
  crtc(0x0b, 31);
  drawn();
  EXPECT_EQ(line(18, 16, 9), "eeeeeeeee");
  EXPECT_EQ(line(18, 32, 9), "000000000");
}

TEST_F(VgaText, StartsWhereTheCrtControllerSays) {
  put_cell(80 * 3 + 5, 'A', 0x07);
  crtc(0x0c, 0);
  crtc(0x0d, 80 * 2 + 5);
  drawn();
  EXPECT_EQ(line(0, 16, 9), "700000070");
  crtc(0x0c, 0xff);
  crtc(0x0d, 0xff);
  put_cell(0, 'A', 0x07);
  drawn();
  EXPECT_EQ(line(9, 0, 9), "700000070") << "after the last address comes the first";
}

TEST_F(VgaText, SplitsTheScreenAtARow) {
  put_cell(0, 'A', 0x07);
  crtc(0x0d, 80);
  crtc(0x07, 0x0f);
  crtc(0x09, 0x0f);
  crtc(0x18, 16 * 10 - 1);
  drawn();
  EXPECT_EQ(line(0, 0, 9), "000000000");
  EXPECT_EQ(line(0, 160, 9), "700000070");
  EXPECT_EQ(line(0, 176, 9), "000000000");
}

TEST_F(VgaText, ColorsGoThroughPaletteMaskAndDac) {
  put_cell(0, 'A', 0x07);
  attribute(7, 0x2a);
  screen_on();
  color(0x2a, 63, 21, 42);
  drawn();
  EXPECT_EQ(pixel(0, 0), 0xff57a8u) << "the lowest of the six bits is repeated";
  attribute(0x14, 0x04);
  screen_on();
  color(0x6a, 1, 2, 3);
  drawn();
  EXPECT_EQ(pixel(0, 0), 0x07080fu);
  attribute(0x10, 0x80);
  screen_on();
  color(0x4a, 4, 0, 0);
  drawn();
  EXPECT_EQ(pixel(0, 0), 0x100000u);
  out(0x3c6, 0x0f);
  drawn();
  EXPECT_EQ(pixel(0, 0), shade(10));
}

TEST_F(VgaText, IsBlackWhileTheScreenIsOff) {
  put_cell(0, 'A', 0x77);
  sequencer(1, 0x20);
  EXPECT_EQ(drawn().width, 720u);
  EXPECT_EQ(pixel(0, 0), 0u);
  sequencer(1, 0x00);
  drawn();
  EXPECT_NE(pixel(0, 0), 0u);
  in(0x3da);
  out(0x3c0, 0x00);
  drawn();
  EXPECT_EQ(pixel(0, 0), 0u);
}

TEST_F(VgaText, ScreensWithoutRowsAreBlank) {
  crtc(0x12, 5);
  crtc(0x07, 0x10);
  EXPECT_EQ(drawn().width, 640u);
  EXPECT_EQ(drawn().height, 480u);
}

TEST_F(VgaTest, IsBlankAtPowerOn) {
  EXPECT_EQ(drawn().width, 640u);
  EXPECT_EQ(drawn().height, 480u);
  EXPECT_EQ(pixel(100, 100), 0u);
}

}  // namespace
}  // namespace wick::devices
