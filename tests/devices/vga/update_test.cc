// What a viewer that looks continuously gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/devices/vga/fixture.h"

namespace wick::devices {
namespace {

using display::Rectangle;
using testing::ElementsAre;
using testing::IsEmpty;

class VgaUpdate : public VgaTest {
 protected:
  std::vector<Rectangle> update() {
    const auto found = card_.update(seen_);
    // Whatever the rectangles say, the picture is the one that draw() gives.
    drawn();
    EXPECT_EQ(seen_.width, picture_.width);
    EXPECT_EQ(seen_.pixels, picture_.pixels);
    return found;
  }
  void start() {
    card_.watch(true);
    update();
    EXPECT_THAT(update(), IsEmpty());
  }
  display::Picture seen_;
};

TEST_F(VgaUpdate, LogsOnlyWhileSomeoneWatches) {
  EXPECT_FALSE(dirty_.logging);
  update();
  EXPECT_EQ(dirty_.taken, 0);
  card_.watch(true);
  EXPECT_TRUE(dirty_.logging);
  update();
  EXPECT_EQ(dirty_.taken, 1);
  card_.watch(false);
  EXPECT_FALSE(dirty_.logging);
}

TEST_F(VgaUpdate, DrawsEverythingFirst) {
  set_mode(64, 64, 32);
  screen_on();
  card_.watch(true);
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 64, 64}));
  EXPECT_THAT(update(), IsEmpty());
  card_.watch(false);
  card_.watch(true);
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 64, 64}));
}

TEST_F(VgaUpdate, DrawsEverythingForAnotherPicture) {
  set_mode(64, 64, 32);
  screen_on();
  start();
  seen_ = {};
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 64, 64}));
}

TEST_F(VgaUpdate, DrawsEverythingWithoutAWatcher) {
  set_mode(64, 64, 32);
  screen_on();
  update();
  vram()[0] = 1;
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 64, 64}));
}

TEST_F(VgaUpdate, DrawsPixelsThatTheGuestWroteDirectly) {
  set_mode(1024, 768, 32);
  screen_on();
  start();
  write_directly((100 * 1024 + 10) * 4, {1, 2, 3});
  write_directly((101 * 1024 + 20) * 4, {1, 2, 3});
  write_directly((700 * 1024 + 1023) * 4, {1, 2, 3});
  EXPECT_THAT(update(), ElementsAre(Rectangle{10, 100, 11, 2}, Rectangle{1023, 700, 1, 1}));
  EXPECT_THAT(update(), IsEmpty());
}

TEST_F(VgaUpdate, LeavesOutWhatIsWrittenWithItsOldValue) {
  set_mode(1024, 768, 32);
  screen_on();
  start();
  write_directly(5000, {0, 0, 0, 0});
  EXPECT_THAT(update(), IsEmpty());
  write_directly(kVramBytes - 4, {1});
  EXPECT_THAT(update(), IsEmpty()) << "not on the screen";
}

TEST_F(VgaUpdate, FindsLinesThatCrossPages) {
  set_mode(1000, 500, 24);
  screen_on();
  start();
  for (const uint32_t line : {1u, 2u, 4u, 300u}) {
    write_directly(line * 3000 + 2999, {0xff});
    EXPECT_THAT(update(), ElementsAre(Rectangle{999, line, 1, 1}));
  }
}

TEST_F(VgaUpdate, DrawsWhatGoesThroughTheWindow) {
  set_mode_13h();
  start();
  poke(0xa0000 + 320 * 7 + 5, 9);
  EXPECT_THAT(update(), ElementsAre(Rectangle{10, 14, 2, 2}));
  set_planar();
  start();
  poke(0xa0000 + 80 * 9 + 1, 0x18);
  EXPECT_THAT(update(), ElementsAre(Rectangle{11, 9, 2, 1}));
}

TEST_F(VgaUpdate, DrawsWhatGoesThroughTheBar) {
  set_mode(640, 480, 32);
  screen_on();
  uint64_t next = 0xc0000000;
  card_.function().place_bars({0xc0000000, 0x10000000}, next, 0);
  uint64_t offset = 0;
  BusDevice* memory = card_.function().find(0xc0000000, 1, offset);
  ASSERT_NE(memory, nullptr);
  start();
  fakes::write_register(*memory, 640 * 4, 0x112233, 4);
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 1, 1, 1}));
}

TEST_F(VgaUpdate, DrawsWhatAModeClears) {
  set_mode(64, 64, 32);
  screen_on();
  write_directly(0, {1});
  start();
  set_mode(64, 64, 32);
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 1, 1}));
}

TEST_F(VgaUpdate, RegistersOfThePictureDrawEverything) {
  set_mode_13h();
  start();
  const Rectangle all{0, 0, 640, 400};
  color(100, 1, 1, 1);
  EXPECT_THAT(update(), ElementsAre(all));
  crtc(0x0d, 1);
  EXPECT_THAT(update(), ElementsAre(all));
  attribute(0x13, 2);
  screen_on();
  EXPECT_THAT(update(), ElementsAre(all));
  out(0x3c6, 0x7f);
  EXPECT_THAT(update(), ElementsAre(all));
  sequencer(1, 0x21);
  EXPECT_THAT(update(), ElementsAre(all));
  EXPECT_THAT(update(), IsEmpty());
  set_mode(800, 600, 32);
  sequencer(1, 0x01);
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 800, 600}));
}

TEST_F(VgaUpdate, DrawsCellsOfText) {
  set_text();
  set_glyph('A', 3, 0xff);
  start();
  put_cell(80 * 3 + 7, 'A', 0x07);
  put_cell(80 * 3 + 9, 'A', 0x07);
  put_cell(80 * 20, 'B', 0x17);
  EXPECT_THAT(update(), ElementsAre(Rectangle{63, 48, 27, 16}, Rectangle{0, 320, 9, 16}));
  EXPECT_THAT(update(), IsEmpty());
}

TEST_F(VgaUpdate, DrawsTheCellsThatTheCursorLeavesAndEnters) {
  set_text();
  crtc(0x0a, 13);
  crtc(0x0f, 5);
  start();
  crtc(0x0e, 80 * 10 / 256);
  crtc(0x0f, 80 * 10 % 256);
  EXPECT_THAT(update(), ElementsAre(Rectangle{45, 0, 9, 16}, Rectangle{0, 160, 9, 16}));
  crtc(0x0a, 0x2d);
  EXPECT_EQ(update().size(), 1u);
}

TEST_F(VgaUpdate, DrawsTextInANewFont) {
  set_text();
  put_cell(3, 'A', 0x07);
  start();
  write_directly(('A' * 32 + 5) * 4 + 2, {0xff});
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 720, 400}));
  EXPECT_EQ(seen_.pixels[5 * 720 + 27], shade(7));
}

TEST_F(VgaUpdate, ReturnsFewRectangles) {
  set_mode(64, 1024, 32);
  screen_on();
  start();
  for (uint64_t line = 0; line < 1024; line += 2) write_directly(line * 256, {1});
  EXPECT_LE(update().size(), 64u);
}

// For the thread sanitizer too: the guest writes while the viewer draws.
TEST_F(VgaUpdate, WorksWhileTheGuestWrites) {
  set_mode_13h();
  card_.watch(true);
  std::atomic<bool> stop = false;
  std::thread guest([&] {
    for (uint32_t i = 0; !stop; ++i) {
      poke(0xa0000 + i % 64000, static_cast<uint8_t>(i));
      if (i % 1000 == 0) color(static_cast<uint8_t>(i), 1, 2, 3);
      if (i % 5000 == 0) set_mode(640, 480, 32);
      if (i % 5000 == 2500) set_display(vga::kEnable, 0);
    }
  });
  display::Picture other;
  for (int i = 0; i < 50; ++i) {
    card_.update(seen_);
    card_.draw(other);
  }
  stop = true;
  guest.join();
  update();
  EXPECT_THAT(update(), IsEmpty());
}

}  // namespace
}  // namespace wick::devices
