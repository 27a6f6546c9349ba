#include "vmm/seat.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <linux/input-event-codes.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace wick::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RecordingDevice final : public devices::InputDevice {
 public:
  bool active() const override { return active_; }
  void key(uint16_t code, bool down) override { note("{}{}", down ? '+' : '-', code); }
  void move_to(uint16_t x, uint16_t y) override { note("to {} {}", x, y); }
  void move_by(int dx, int dy) override { note("by {} {}", dx, dy); }
  void scroll(int steps) override { note("scroll {}", steps); }

  std::vector<std::string> take() { return std::exchange(calls_, {}); }
  bool active_ = true;

 private:
  template <typename... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    calls_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  std::vector<std::string> calls_;
};

class SeatTest : public testing::Test {
 protected:
  SeatTest() { seat_.set_screen_size(1001, 501); }
  RecordingDevice ps2_keyboard_, ps2_mouse_, virtio_keyboard_, virtio_tablet_;
  Seat seat_{{&ps2_keyboard_, &ps2_mouse_, &virtio_keyboard_, &virtio_tablet_}};
};

TEST_F(SeatTest, KeysGoToTheVirtioKeyboardIfItsDriverIsActive) {
  seat_.key(KEY_A, true);
  seat_.key(KEY_A, false);
  EXPECT_THAT(virtio_keyboard_.take(), ElementsAre("+30", "-30"));
  virtio_keyboard_.active_ = false;
  seat_.key(KEY_A, true);
  seat_.key(KEY_A, true);
  seat_.key(KEY_A, false);
  EXPECT_THAT(virtio_keyboard_.take(), IsEmpty());
  EXPECT_THAT(ps2_keyboard_.take(), ElementsAre("+30", "+30", "-30"));
}

TEST_F(SeatTest, AReleaseGoesToTheDeviceThatGotThePress) {
  virtio_keyboard_.active_ = virtio_tablet_.active_ = false;
  seat_.key(KEY_A, true);
  seat_.key(BTN_LEFT, true);
  virtio_keyboard_.active_ = virtio_tablet_.active_ = true;
  seat_.key(KEY_A, true);
  seat_.key(KEY_A, false);
  seat_.key(BTN_LEFT, false);
  EXPECT_THAT(ps2_keyboard_.take(), ElementsAre("+30", "+30", "-30"));
  EXPECT_THAT(ps2_mouse_.take(), ElementsAre("+272", "-272"));
  EXPECT_THAT(virtio_keyboard_.take(), IsEmpty());
  seat_.key(KEY_A, true);
  EXPECT_THAT(virtio_keyboard_.take(), ElementsAre("+30"));
}

TEST_F(SeatTest, IgnoresAReleaseWithoutAPress) {
  seat_.key(KEY_A, false);
  seat_.key(0xffff, true);
  EXPECT_THAT(virtio_keyboard_.take(), IsEmpty());
  EXPECT_THAT(ps2_keyboard_.take(), IsEmpty());
}

TEST_F(SeatTest, TheTabletGetsPositions) {
  seat_.move_to(0x7fff, 0);
  seat_.move_to(0xffff, 0xffff);
  seat_.key(BTN_RIGHT, true);
  seat_.scroll(-1);
  EXPECT_THAT(virtio_tablet_.take(),
              ElementsAre("to 32767 0", "to 32767 32767", "+273", "scroll -1"));
  EXPECT_THAT(ps2_mouse_.take(), IsEmpty());
}

TEST_F(SeatTest, TheTabletGetsPositionsForMovements) {
  seat_.move_to(0, 0);
  seat_.move_by(1000, 500);
  seat_.move_by(-500, 0);
  seat_.move_by(std::numeric_limits<int>::min(), std::numeric_limits<int>::max());
  EXPECT_THAT(virtio_tablet_.take(),
              ElementsAre("to 0 0", "to 32767 32767", "to 16384 32767", "to 0 32767"));
}

TEST_F(SeatTest, TheMouseGetsDifferencesInPixels) {
  virtio_tablet_.active_ = false;
  seat_.move_to(0, 0);
  EXPECT_THAT(ps2_mouse_.take(), IsEmpty()) << "where the guest's pointer is, is not known";
  seat_.move_to(0x7fff, 0x7fff);
  seat_.move_to(0, 0x7fff);
  EXPECT_THAT(ps2_mouse_.take(), ElementsAre("by 1000 500", "by -1000 0"));
  seat_.move_by(7, -8);
  seat_.scroll(2);
  EXPECT_THAT(ps2_mouse_.take(), ElementsAre("by 7 -8", "scroll 2"));
}

TEST_F(SeatTest, SmallMovementsAddUp) {
  virtio_tablet_.active_ = false;
  seat_.move_to(0, 0);
  for (int x = 1; x <= 0x7fff; ++x) seat_.move_to(static_cast<uint16_t>(x), 0);
  const auto calls = ps2_mouse_.take();
  EXPECT_EQ(calls.size(), 1000u);
  EXPECT_THAT(calls, testing::Each("by 1 0"));
}

TEST_F(SeatTest, TakesItsDevicesAnewAtAReset) {
  seat_.key(KEY_A, true);
  seat_.key(BTN_LEFT, true);
  RecordingDevice keyboard;
  seat_.set_devices({.ps2_keyboard = &keyboard});
  seat_.key(KEY_A, false);
  seat_.key(BTN_LEFT, false);
  seat_.key(KEY_B, true);
  EXPECT_THAT(keyboard.take(), ElementsAre("+48"));
  EXPECT_THAT(virtio_keyboard_.take(), ElementsAre("+30"));
  EXPECT_THAT(virtio_tablet_.take(), ElementsAre("+272"));
  EXPECT_TRUE(seat_.has_keyboard());
}

TEST_F(SeatTest, WorksWithoutDevices) {
  Seat seat;
  EXPECT_FALSE(seat.has_keyboard());
  seat.key(KEY_A, true);
  seat.key(KEY_A, false);
  seat.key(BTN_LEFT, true);
  seat.move_to(1, 1);
  seat.move_by(1, 1);
  seat.scroll(1);
  seat.set_screen_size(0, 0);
  seat.move_to(5, 5);
  seat.move_by(5, 5);
}

TEST_F(SeatTest, ADeviceWithoutDriverIsBetterThanNone) {
  virtio_keyboard_.active_ = virtio_tablet_.active_ = false;
  seat_.set_devices({.virtio_keyboard = &virtio_keyboard_, .virtio_tablet = &virtio_tablet_});
  seat_.key(KEY_A, true);
  seat_.move_to(1, 2);
  EXPECT_THAT(virtio_keyboard_.take(), ElementsAre("+30"));
  EXPECT_THAT(virtio_tablet_.take(), ElementsAre("to 1 2"));
}

}  // namespace
}  // namespace wick::vmm
