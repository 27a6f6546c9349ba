// One picture for several viewers.
#include "display/shared_picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/display/fake_screen.h"

namespace wick::display {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Seat {
  EventFd wake = EventFd::create().value();
  SharedPicture::Viewer viewer{wake};
  Picture copy;

  std::vector<Rectangle> look(SharedPicture& picture) { return picture.copy_changes(viewer, copy); }
};

constexpr Rectangle kWhole{0, 0, 40, 30};

TEST(SharedPicture, GivesEachViewerWhatChangedSinceItLooked) {
  FakeCard card(40, 30);
  SharedPicture picture(&card);
  Seat quick, slow;
  picture.add_viewer(quick.viewer);
  picture.add_viewer(slow.viewer);
  EXPECT_TRUE(picture.update());
  EXPECT_THAT(quick.look(picture), ElementsAre(kWhole));
  EXPECT_THAT(slow.look(picture), ElementsAre(kWhole));
  card.paint({1, 2, 3, 4}, 5);
  EXPECT_TRUE(picture.update());
  EXPECT_THAT(quick.look(picture), ElementsAre(Rectangle{1, 2, 3, 4}));
  card.paint({20, 20, 1, 1}, 6);
  EXPECT_TRUE(picture.update());
  EXPECT_THAT(quick.look(picture), ElementsAre(Rectangle{20, 20, 1, 1}));
  EXPECT_THAT(slow.look(picture), ElementsAre(Rectangle{1, 2, 3, 4}, Rectangle{20, 20, 1, 1}));
  EXPECT_TRUE(quick.copy.pixels == slow.copy.pixels);
  EXPECT_EQ(slow.copy.pixels[20 * 40 + 20], 6u);
  EXPECT_THAT(slow.look(picture), IsEmpty());
}

TEST(SharedPicture, WakesViewersOnlyForChanges) {
  FakeCard card(40, 30);
  SharedPicture picture(&card);
  Seat seat;
  picture.add_viewer(seat.viewer);
  EXPECT_TRUE(picture.update());
  EXPECT_TRUE(seat.wake.consume());
  EXPECT_FALSE(picture.update());
  EXPECT_FALSE(seat.wake.consume());
}

TEST(SharedPicture, BoundsTheChangesOfAViewerThatDoesNotLook) {
  FakeCard card(400, 300);
  SharedPicture picture(&card);
  Seat seat;
  picture.add_viewer(seat.viewer);
  picture.update();
  seat.look(picture);
  for (uint32_t i = 0; i < 10 * SharedPicture::kMaxRectangles; ++i) {
    card.paint({10 + i % 300, 20 + i % 200, 1, 1}, i);
    picture.update();
  }
  EXPECT_LE(seat.look(picture).size(), SharedPicture::kMaxRectangles);
  Picture drawn;
  card.draw(drawn);
  EXPECT_TRUE(seat.copy.pixels == drawn.pixels);
}

TEST(SharedPicture, AChangeOfSizeIsAChangeOfAll) {
  FakeCard card(40, 30);
  SharedPicture picture(&card);
  Seat seat;
  picture.add_viewer(seat.viewer);
  picture.update();
  seat.look(picture);
  card.paint({1, 1, 1, 1}, 1);
  card.resize(30, 40);
  EXPECT_TRUE(picture.update());
  EXPECT_THAT(seat.look(picture), ElementsAre(Rectangle{0, 0, 30, 40}));
  EXPECT_EQ(seat.copy.pixels.size(), 1200u);
}

// Rectangles that a card should not return.
class WildCard : public Source {
 public:
  void draw(Picture& picture) override { picture = {4, 4, std::vector<uint32_t>(16)}; }
  void watch(bool) override {}
  std::vector<Rectangle> update(Picture& picture) override {
    picture = {4, 4, std::vector<uint32_t>(16)};
    return {{3, 3, 5, 5}, {5, 0, 1, 1}, {0, 0, UINT32_MAX, UINT32_MAX}, {UINT32_MAX, 0, 1, 1}};
  }
};

TEST(SharedPicture, CutsRectanglesToThePicture) {
  WildCard card;
  SharedPicture picture(&card);
  Seat seat;
  picture.add_viewer(seat.viewer);
  picture.update();
  seat.look(picture);
  picture.update();
  EXPECT_THAT(seat.look(picture), ElementsAre(Rectangle{3, 3, 1, 1}, Rectangle{0, 0, 4, 4}));
}

TEST(SharedPicture, WithoutACardOrAModeIsBlackOfTheLastSize) {
  SharedPicture picture(nullptr);
  Seat seat;
  picture.add_viewer(seat.viewer);
  EXPECT_FALSE(picture.update());
  EXPECT_THAT(seat.look(picture), ElementsAre(Rectangle{0, 0, 640, 480}));
  FakeCard card(40, 30);
  picture.set_source(&card);
  picture.update();
  seat.look(picture);
  EXPECT_EQ(seat.copy.pixels[0], 0x102030u);
  card.resize(0, 0);
  picture.update();
  EXPECT_THAT(seat.look(picture), ElementsAre(kWhole));
  EXPECT_EQ(seat.copy.pixels, std::vector<uint32_t>(1200, 0));
  picture.set_source(nullptr);
}

TEST(SharedPicture, WatchesTheCardWhileThereAreViewers) {
  FakeCard card(40, 30), next(40, 30);
  {
    SharedPicture picture(&card);
    Seat first, second;
    EXPECT_FALSE(card.watched());
    EXPECT_FALSE(picture.update());
    EXPECT_EQ(card.updates(), 0);
    picture.add_viewer(first.viewer);
    picture.add_viewer(second.viewer);
    EXPECT_TRUE(card.watched());
    picture.remove_viewer(first.viewer);
    EXPECT_TRUE(card.watched());
    picture.set_source(&next);
    EXPECT_FALSE(card.watched());
    EXPECT_TRUE(next.watched());
    picture.remove_viewer(second.viewer);
    EXPECT_FALSE(next.watched());
    picture.add_viewer(first.viewer);
  }
  EXPECT_FALSE(next.watched());
}

}  // namespace
}  // namespace wick::display
