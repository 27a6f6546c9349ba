#include <gtest/gtest.h>

#include <array>

#include "tests/devices/vga/fixture.h"

namespace wick::devices {
namespace {

// Each index register with its data register.
TEST_F(VgaTest, RegistersKeepTheBitsThatTheyHave) {
  out(0x3c2, 0x67);
  for (uint8_t index = 0; index < 5; ++index) sequencer(index, 0xff);
  const uint8_t sequencer_bits[] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
  for (uint8_t index = 0; index < 5; ++index) {
    out(0x3c4, index);
    EXPECT_EQ(in(0x3c5), sequencer_bits[index]) << int{index};
  }
  const uint8_t graphics_bits[] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
  for (uint8_t index = 0; index < 9; ++index) {
    graphics(index, 0xff);
    out(0x3ce, index);
    EXPECT_EQ(in(0x3cf), graphics_bits[index]) << int{index};
  }
  for (uint8_t index = 0; index < 25; ++index) {
    if (index == 0x11) continue;
    crtc(index, 0xa5);
    out(0x3d4, index);
    EXPECT_EQ(in(0x3d5), 0xa5) << int{index};
  }
  EXPECT_EQ(in(0x3cc), 0x67);
}

TEST_F(VgaTest, RegistersThatAreNoneReadAsZero) {
  out(0x3c2, 0x67);
  crtc(0x40, 0xff);
  EXPECT_EQ(in(0x3d5), 0);
  graphics(0x0c, 0xff);
  EXPECT_EQ(in(0x3cf), 0);
  sequencer(7, 0xff);
  EXPECT_EQ(in(0x3c5), 0);
  attribute(0x1f, 0xff);
  EXPECT_EQ(in(0x3c1), 0);
  EXPECT_EQ(in(0x3c2), 0);
}

TEST_F(VgaTest, ProtectsTheFirstEightRegistersOfTheCrtController) {
  out(0x3c2, 0x67);
  crtc(0x00, 0x5f);
  crtc(0x07, 0x00);
  crtc(0x11, 0x80);
  crtc(0x00, 0xff);
  crtc(0x07, 0xff);
  crtc(0x09, 0x4f);
  out(0x3d4, 0x00);
  EXPECT_EQ(in(0x3d5), 0x5f);
  out(0x3d4, 0x07);
  EXPECT_EQ(in(0x3d5), 0x10) << "only the bit of the line compare";
  out(0x3d4, 0x09);
  EXPECT_EQ(in(0x3d5), 0x4f);
  crtc(0x11, 0x00);
  crtc(0x00, 0xff);
  out(0x3d4, 0x00);
  EXPECT_EQ(in(0x3d5), 0xff);
}

TEST_F(VgaTest, HasItsCrtControllerAtTheAddressesOfTheEmulation) {
  out(0x3c2, 0x67);
  crtc(0x0c, 0x12);
  EXPECT_EQ(in(0x3b5), 0xff);
  EXPECT_EQ(in(0x3ba), 0xff);
  out(0x3c2, 0x66);
  EXPECT_EQ(in(0x3d5), 0xff);
  EXPECT_EQ(in(0x3da), 0xff);
  EXPECT_EQ(in(0x3b5), 0x12);
  out(0x3b4, 0x0d);
  EXPECT_EQ(in(0x3b4), 0x0d);
  EXPECT_NE(in(0x3ba), 0xff);
  out(0x3ba, 0x10);
  EXPECT_EQ(in(0x3ca), 0x10);
}

TEST_F(VgaTest, AttributePortTakesIndexAndDataInTurn) {
  out(0x3c2, 0x67);
  in(0x3da);
  out(0x3c0, 0x03);
  out(0x3c0, 0x2a);
  out(0x3c0, 0x33);
  EXPECT_EQ(in(0x3c0), 0x33) << "an index, with the bit that lights the screen";
  in(0x3da);
  out(0x3c0, 0x03);
  EXPECT_EQ(in(0x3c1), 0x2a) << "reading Input Status 1 made the next write an index";
  out(0x3c0, 0xff);
  EXPECT_EQ(in(0x3c1), 0x3f);
}

TEST_F(VgaTest, DacReadsAndWritesWholeColors) {
  color(10, 1, 2, 3);
  color(11, 4, 5, 0xff);
  out(0x3c7, 10);
  EXPECT_EQ(in(0x3c7), 3) << "in the read state";
  for (const int expected : {1, 2, 3, 4, 5, 0x3f}) EXPECT_EQ(in(0x3c9), uint64_t(expected));
  out(0x3c8, 10);
  EXPECT_EQ(in(0x3c7), 0);
  out(0x3c9, 60);
  out(0x3c9, 61);
  out(0x3c7, 10);
  EXPECT_EQ(in(0x3c9), 1) << "unchanged until all components are written";
  set_display(vga::kEnable, 0x20);
  out(0x3c7, 11);
  in(0x3c9);
  in(0x3c9);
  EXPECT_EQ(in(0x3c9), 0xff) << "all of its 8 bits";
}

TEST_F(VgaTest, DacGoesOnFromTheLastColorToTheFirst) {
  color(255, 1, 2, 3);
  for (const uint8_t value : std::to_array<uint8_t>({7, 8, 9})) out(0x3c9, value);
  out(0x3c7, 255);
  for (const int expected : {1, 2, 3, 7, 8, 9}) EXPECT_EQ(in(0x3c9), uint64_t(expected));
}

TEST_F(VgaTest, RetraceBeginsAndEndsForThoseWhoWait) {
  out(0x3c2, 0x67);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(in(0x3da) & 9, 9u);
    EXPECT_EQ(in(0x3da) & 9, 0u);
  }
}

TEST_F(VgaTest, NamesItsPortsForStatistics) {
  for (const auto& range : card_.port_ranges())
    for (uint16_t i = 0; i < range.ports; ++i) (void)range.device->name_of(i, true);
  EXPECT_EQ(card_.port_ranges()[3].device->name_of(9, true).reg, "DAC data");
  EXPECT_EQ(card_.port_ranges()[0].device->name_of(0, true).reg, "index");
}

TEST_F(VgaTest, IsThePciFunctionThatDriversLookFor) {
  const auto description = card_.function().describe();
  EXPECT_EQ(description.identity.vendor, 0x1234);
  EXPECT_EQ(description.identity.device, 0x1111);
  EXPECT_EQ(description.identity.subsystem_vendor, 0x1af4);
  EXPECT_EQ(description.identity.subsystem, 0x1100);
  EXPECT_EQ(description.identity.class_code, 0x030000u);
  EXPECT_GE(description.identity.revision, 2) << "Linux then looks for the extended registers";
  ASSERT_EQ(description.bars.size(), 2u);
  EXPECT_EQ(description.bars[0].index, 0u);
  EXPECT_EQ(description.bars[0].size_bytes, kVramBytes);
  EXPECT_EQ(description.bars[1].index, 2u);
  EXPECT_EQ(description.bars[1].size_bytes, 4096u);
}

TEST_F(VgaTest, TellsWhereTheVideoMemoryIs) {
  uint64_t next = 0xc0000000;
  card_.function().place_bars({0xc0000000, 0x10000000}, next, 0);
  ASSERT_EQ(moves_.size(), 1u);
  EXPECT_EQ(moves_[0], (std::pair<uint64_t, uint64_t>{0, 0xc0000000}));
  card_.function().stop_decoding();
  EXPECT_EQ(moves_.back(), (std::pair<uint64_t, uint64_t>{0xc0000000, 0}));
}

}  // namespace
}  // namespace wick::devices
