// The window at 0xa0000.
#include <gtest/gtest.h>

#include "tests/devices/vga/fixture.h"

namespace wick::devices {
namespace {

class VgaWindow : public VgaTest {
 protected:
  VgaWindow() {
    set_planar();
    graphics(6, 0x05);
  }
  // The bytes of the planes, plane 0 lowest.
  uint32_t planes(uint64_t plane_address) {
    return load_le<uint32_t>(std::as_bytes(vram()).subspan(plane_address * 4, 4));
  }
  void set_planes(uint64_t plane_address, uint32_t value) {
    store_le(std::as_writable_bytes(vram()).subspan(plane_address * 4, 4), value);
  }
};

TEST_F(VgaWindow, WriteMode0WritesTheMaskedPlanes) {
  set_planes(5, 0x44332211);
  sequencer(2, 0x05);
  poke(0xa0005, 0xab);
  EXPECT_EQ(planes(5), 0x44ab22abu);
}

TEST_F(VgaWindow, WriteMode0RotatesAndSets) {
  graphics(3, 0x03);  // rotate right by three
  poke(0xa0000, 0x81);
  EXPECT_EQ(planes(0), 0x30303030u);
  graphics(3, 0x00);
  graphics(0, 0x05);
  graphics(1, 0x03);  // planes 0 and 1 come from Set/Reset
  poke(0xa0001, 0x5a);
  EXPECT_EQ(planes(1), 0x5a5a00ffu);
}

TEST_F(VgaWindow, BitMaskTakesTheOtherBitsFromTheLatches) {
  set_planes(7, 0x40302010);
  peek(0xa0007);
  set_planes(7, 0);  // the latches keep what was read
  graphics(8, 0x0f);
  poke(0xa0007, 0xff);
  EXPECT_EQ(planes(7), 0x4f3f2f1fu);
}

TEST_F(VgaWindow, CombinesDataAndLatches) {
  set_planes(3, 0xf0f0f0f0);
  struct Case {
    uint8_t function;
    uint32_t expected;
  };
  for (const auto [function, expected] : {Case{0x08, 0x30303030}, Case{0x10, 0xfcfcfcfc},
                                          Case{0x18, 0xcccccccc}, Case{0x00, 0x3c3c3c3c}}) {
    peek(0xa0003);
    graphics(3, function);
    poke(0xa0004, 0x3c);
    EXPECT_EQ(planes(4), expected) << int{function};
  }
}

TEST_F(VgaWindow, WriteMode1CopiesTheLatches) {
  set_planes(1, 0x12345678);
  graphics(5, 0x01);
  peek(0xa0001);
  poke(0xa0002, 0xff);
  EXPECT_EQ(planes(2), 0x12345678u);
}

TEST_F(VgaWindow, WriteMode2WritesAColor) {
  graphics(5, 0x02);
  graphics(8, 0xf0);
  set_planes(0, 0x0f0f0f0f);
  peek(0xa0000);
  poke(0xa0000, 0x05);
  EXPECT_EQ(planes(0), 0x0fff0fffu);
}

TEST_F(VgaWindow, WriteMode3WritesSetResetUnderTheByte) {
  graphics(5, 0x03);
  graphics(0, 0x0a);
  graphics(8, 0x3f);
  set_planes(0, 0x55555555);
  peek(0xa0000);
  poke(0xa0000, 0xfc);  // the mask becomes 0x3c
  EXPECT_EQ(planes(0), 0x7d417d41u);
}

TEST_F(VgaWindow, ReadMode0ReadsOnePlane) {
  set_planes(9, 0x44332211);
  for (uint8_t plane = 0; plane < 4; ++plane) {
    graphics(4, plane);
    EXPECT_EQ(peek(0xa0009), 0x11 * (plane + 1));
  }
}

TEST_F(VgaWindow, ReadMode1ComparesColors) {
  set_planes(0, 0x0f00ff33);  // by bit: 2 2 3 3, 10 10 11 11
  graphics(5, 0x08);
  graphics(2, 0x03);
  graphics(7, 0x0f);
  EXPECT_EQ(peek(0xa0000), 0x30);
  graphics(7, 0x01);
  EXPECT_EQ(peek(0xa0000), 0x33) << "only plane 0 matters";
  graphics(7, 0x00);
  EXPECT_EQ(peek(0xa0000), 0xff);
}

TEST_F(VgaWindow, Chain4IsLinear) {
  set_mode_13h();
  for (uint8_t i = 0; i < 8; ++i) poke(0xa0000 + i, i);
  for (uint8_t i = 0; i < 8; ++i) {
    EXPECT_EQ(vram()[i], i);
    EXPECT_EQ(peek(0xa0000 + i), i);
  }
  sequencer(2, 0x02);
  poke(0xa0000, 0x55);
  poke(0xa0001, 0x55);
  EXPECT_EQ(vram()[0], 0) << "plane 0 is masked";
  EXPECT_EQ(vram()[1], 0x55);
}

TEST_F(VgaWindow, ModeXWritesWhatChain4Shows) {
  set_mode_13h();
  sequencer(4, 0x06);
  sequencer(2, 0x04);
  poke(0xa0003, 0x77);
  EXPECT_EQ(vram()[14], 0x77);
}

TEST_F(VgaWindow, OddAndEvenAddressesHavePlanesOfTheirOwn) {
  set_text();
  poke(0xb8000, 'A');
  poke(0xb8001, 0x1f);
  poke(0xb8002, 'B');
  EXPECT_EQ(planes(0), 0x1f00u | 'A');
  EXPECT_EQ(planes(1), uint32_t{'B'});
  EXPECT_EQ(peek(0xb8000), 'A');
  EXPECT_EQ(peek(0xb8001), 0x1f);
  EXPECT_EQ(peek(0xb8002), 'B');
}

TEST_F(VgaWindow, MemoryMapChoosesTheAddresses) {
  set_mode_13h();
  vram()[0] = 0x42;
  vram()[0x10000] = 0x43;
  struct Case {
    uint8_t map;
    uint64_t address;
    uint64_t end;
  };
  for (const auto [map, address, end] : {Case{0, 0xa0000, 0xc0000}, Case{1, 0xa0000, 0xb0000},
                                         Case{2, 0xb0000, 0xb8000}, Case{3, 0xb8000, 0xc0000}}) {
    graphics(6, static_cast<uint8_t>(1 | map << 2));
    for (uint64_t there = 0xa0000; there < 0xc0000; there += 0x8000) {
      const bool inside = there >= address && there < end;
      const uint8_t expected = !inside                       ? 0xff
                               : there == address            ? 0x42
                               : there - address == 0x10000u ? 0x43
                                                             : 0;
      EXPECT_EQ(peek(there), expected) << int{map} << " " << there;
    }
  }
  graphics(6, 0x05);
  poke(0xb8000, 0x99);
  EXPECT_EQ(vram()[0x18000], 0) << "not in the map";
}

TEST_F(VgaWindow, BankMovesTheWindowWhileTheDisplayIsOn) {
  set_display(vga::kBank, 3);
  vram()[0x30005] = 0x11;
  vram()[5] = 0x22;
  set_mode_13h();
  EXPECT_EQ(peek(0xa0005), 0x22);
  set_mode(640, 480, 8, 0xc1);
  EXPECT_EQ(peek(0xa0005), 0x11);
  poke(0xa0006, 0x33);
  EXPECT_EQ(vram()[0x30006], 0x33);
  set_display(vga::kBank, 0xffff);
  EXPECT_EQ(display(vga::kBank), kVramBytes / 65536 - 1);
  set_display(vga::kEnable, 0);
  EXPECT_EQ(peek(0xa0005), 0x22);
}

TEST_F(VgaWindow, AccessesOfAllWidthsAreBytesInTurn) {
  set_mode_13h();
  for (const size_t width : fakes::kWidths) {
    fakes::write_register(card_.window(), 0xfff8, 0x8877665544332211, width);
    EXPECT_EQ(fakes::read_register(card_.window(), 0xfff8, width),
              0x8877665544332211 & fakes::all_ones(width));
  }
  fakes::write_register(card_.window(), 0x1fff8, ~0ull, 8);
  EXPECT_EQ(fakes::read_register(card_.window(), 0xfffc, 8), 0xffffffff88776655);
}

TEST_F(VgaWindow, PlanesBeyondTheVideoMemoryWrapAround) {
  set_mode(640, 480, 4, 0xc1);
  sequencer(2, 0x0f);
  set_display(vga::kBank, 0xffff);
  poke(0xaffff, 0x5a);
  EXPECT_EQ(vram()[kVramBytes - 1], 0x5a);
  EXPECT_EQ(peek(0xaffff), 0x5a);
}

}  // namespace
}  // namespace wick::devices
