#include "devices/ps2_mouse.h"

#include <gmock/gmock.h>
#include <linux/input-event-codes.h>

#include <limits>

#include "tests/devices/ps2_fixture.h"

namespace wick::devices {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Ps2MouseTest : public Ps2Test {
 protected:
  struct Packet {
    int buttons = 0, x = 0, y = 0, wheel = 0;
    bool operator==(const Packet&) const = default;
  };

  Ps2MouseTest() { set_command_byte(0x04); }
  Bytes command(std::initializer_list<uint8_t> bytes) {
    Bytes all = to_mouse(bytes);
    for (int& byte : all) byte -= 0x100;
    return all;
  }
  void enable() { EXPECT_THAT(command({0xf4}), ElementsAre(0xfa)); }
  void knock(uint8_t second) { (void)command({0xf3, 200, 0xf3, second, 0xf3, 80}); }
  // Reads all packets as Linux's psmouse does, after the first byte's fixed bit.
  std::vector<Packet> packets(size_t size = 3) {
    const Bytes bytes = read_all();
    EXPECT_EQ(bytes.size() % size, 0u);
    std::vector<Packet> all;
    for (size_t i = 0; i + size <= bytes.size(); i += size) {
      const int first = bytes[i] - 0x100;
      EXPECT_EQ(first & 0xc8, 0x08) << "and no overflow";
      Packet packet{.buttons = first & 0x07,
                    .x = bytes[i + 1] - 0x100 - ((first & 0x10) != 0 ? 256 : 0),
                    .y = bytes[i + 2] - 0x100 - ((first & 0x20) != 0 ? 256 : 0)};
      if (size == 4) packet.wheel = static_cast<int8_t>(bytes[i + 3] - 0x100);
      all.push_back(packet);
    }
    return all;
  }
};

TEST_F(Ps2MouseTest, TellsWhatItIs) {
  EXPECT_THAT(command({0xff}), ElementsAre(0xfa, 0xaa, 0x00));
  EXPECT_THAT(command({0xf2}), ElementsAre(0xfa, 0x00));
  EXPECT_THAT(command({0xe9}), ElementsAre(0xfa, 0x00, 0x02, 100));
}

TEST_F(Ps2MouseTest, ReportsOnlyWhenEnabled) {
  EXPECT_FALSE(mouse_.active());
  mouse_.move_by(5, 5);
  EXPECT_THAT(packets(), IsEmpty());
  enable();
  EXPECT_TRUE(mouse_.active());
  EXPECT_THAT(packets(), IsEmpty()) << "it did not count before";
  mouse_.move_by(5, 3);
  EXPECT_THAT(packets(), ElementsAre(Packet{.x = 5, .y = -3})) << "up is positive";
  EXPECT_THAT(command({0xf5}), ElementsAre(0xfa));
  EXPECT_FALSE(mouse_.active());
  mouse_.move_by(5, 3);
  EXPECT_THAT(packets(), IsEmpty());
}

TEST_F(Ps2MouseTest, ReportsButtons) {
  enable();
  mouse_.key(BTN_LEFT, true);
  EXPECT_THAT(packets(), ElementsAre(Packet{.buttons = 1}));
  mouse_.key(BTN_RIGHT, true);
  mouse_.key(BTN_MIDDLE, true);
  EXPECT_THAT(packets(), ElementsAre(Packet{.buttons = 3}, Packet{.buttons = 7}));
  mouse_.key(BTN_LEFT, true);
  mouse_.key(BTN_TASK, true);
  EXPECT_THAT(packets(), IsEmpty()) << "nothing changed";
  EXPECT_EQ(command({0xe9}).at(1), 0x27);
  mouse_.key(BTN_LEFT, false);
  EXPECT_THAT(packets(), ElementsAre(Packet{.buttons = 6}));
}

TEST_F(Ps2MouseTest, SplitsLargeMovements) {
  enable();
  mouse_.move_by(600, -300);
  EXPECT_THAT(packets(), ElementsAre(Packet{.x = 255, .y = 255}, Packet{.x = 255, .y = 45},
                                     Packet{.x = 90, .y = 0}));
  mouse_.move_by(-256, 0);
  EXPECT_THAT(packets(), ElementsAre(Packet{.x = -255}, Packet{.x = -1}));
}

TEST_F(Ps2MouseTest, TakesTheMostExtremeMovements) {
  enable();
  constexpr int kMost = std::numeric_limits<int>::max();
  constexpr int kLeast = std::numeric_limits<int>::min();
  for (int i = 0; i < 3; ++i) {
    mouse_.move_by(kLeast, kLeast);
    mouse_.scroll(kLeast);
  }
  EXPECT_LT(read_all().size(), 1000u);
  mouse_.move_by(kMost, kMost);
  mouse_.scroll(kMost);
  EXPECT_LT(read_all().size(), 1000u);
}

TEST_F(Ps2MouseTest, MergesMovementsThatNobodyReads) {
  enable();
  mouse_.move_by(1, 0);  // its first byte is in the output buffer
  for (int i = 0; i < 50; ++i) mouse_.move_by(2, 1);
  EXPECT_LE(mouse_.state().motions.size(), 1u);
  EXPECT_THAT(packets(), ElementsAre(Packet{.x = 1}, Packet{.x = 100, .y = -50}));
}

TEST_F(Ps2MouseTest, KeepsClicksThatNobodyReads) {
  enable();
  mouse_.move_by(1, 0);
  mouse_.key(BTN_LEFT, true);
  mouse_.move_by(5, 0);
  mouse_.key(BTN_LEFT, false);
  mouse_.move_by(6, 0);
  EXPECT_THAT(packets(), ElementsAre(Packet{.x = 1}, Packet{.buttons = 1, .x = 5}, Packet{.x = 6}));
}

TEST_F(Ps2MouseTest, NeverLosesTheLastStateOfAButton) {
  enable();
  for (int i = 0; i < 1001; ++i) {
    mouse_.key(BTN_LEFT, i % 2 == 0);
    mouse_.move_by(1, 0);
  }
  EXPECT_LE(mouse_.state().motions.size(), Ps2Mouse::kMaxMotions);
  const auto all = packets();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.back().buttons, 1);
  int moved = 0;
  for (const Packet& packet : all) moved += packet.x;
  EXPECT_EQ(moved, 1001);
}

TEST_F(Ps2MouseTest, ACommandWithinAPacketLosesNoButton) {
  enable();
  mouse_.key(BTN_LEFT, true);
  (void)data();
  write_command(0xd4);
  write_data(0xe6);
  EXPECT_EQ(next(), 0x00) << "which is in the output buffer";
  EXPECT_EQ(next(), 0xfa);
  EXPECT_THAT(packets(), ElementsAre(Packet{.buttons = 1})) << "the rest is not sent";
}

TEST_F(Ps2MouseTest, BecomesAWheelMouse) {
  knock(100);
  EXPECT_THAT(command({0xf2}), ElementsAre(0xfa, 0x03));
  enable();
  mouse_.scroll(1);
  mouse_.move_by(1, 0);
  EXPECT_THAT(packets(4), ElementsAre(Packet{.wheel = -1}, Packet{.x = 1}))
      << "away from the person is negative";
  mouse_.scroll(-2);
  EXPECT_THAT(packets(4), ElementsAre(Packet{.wheel = 2}));
  EXPECT_THAT(command({0xff}), ElementsAre(0xfa, 0xaa, 0x00));
  EXPECT_THAT(command({0xf2}), ElementsAre(0xfa, 0x00));
}

TEST_F(Ps2MouseTest, BecomesAnExplorer) {
  knock(200);
  EXPECT_THAT(command({0xf2}), ElementsAre(0xfa, 0x04));
  enable();
  mouse_.scroll(9);
  EXPECT_THAT(read_all(), ElementsAre(0x108, 0x100, 0x100, 0x109, 0x108, 0x100, 0x100, 0x10e))
      << "-7, then -2, of 4 bits";
}

TEST_F(Ps2MouseTest, OtherRatesAreNoKnock) {
  (void)command({0xf3, 200, 0xf3, 100, 0xf3, 60, 0xf3, 80});
  EXPECT_THAT(command({0xf2}), ElementsAre(0xfa, 0x00));
  enable();
  mouse_.scroll(1);
  EXPECT_THAT(packets(), IsEmpty()) << "it has no wheel";
}

TEST_F(Ps2MouseTest, RemoteModeSendsOnRequest) {
  EXPECT_THAT(command({0xf0}), ElementsAre(0xfa));
  mouse_.move_by(3, 0);
  mouse_.key(BTN_LEFT, true);
  EXPECT_THAT(packets(), IsEmpty());
  EXPECT_THAT(command({0xeb}), ElementsAre(0xfa, 0x08, 0x03, 0x00));
  EXPECT_THAT(command({0xeb}), ElementsAre(0xfa, 0x09, 0x00, 0x00));
  EXPECT_THAT(command({0xeb}), ElementsAre(0xfa, 0x09, 0x00, 0x00)) << "nothing happened";
  EXPECT_EQ(command({0xe9}).at(1), 0x44);
  EXPECT_THAT(command({0xea, 0xf4}), ElementsAre(0xfa, 0xfa));
  mouse_.move_by(1, 0);
  EXPECT_THAT(packets(), ElementsAre(Packet{.buttons = 1, .x = 1}));
}

TEST_F(Ps2MouseTest, ScalesMovementsInStreamModeOnly) {
  EXPECT_THAT(command({0xe7}), ElementsAre(0xfa));
  enable();
  EXPECT_EQ(command({0xe9}).at(1), 0x30);
  mouse_.move_by(5, -3);
  EXPECT_THAT(packets(), ElementsAre(Packet{.x = 9, .y = 3}));
  mouse_.move_by(200, 0);
  EXPECT_THAT(packets(), ElementsAre(Packet{.x = 254}, Packet{.x = 146}));
  EXPECT_THAT(command({0xf0}), ElementsAre(0xfa));
  mouse_.move_by(5, 0);
  EXPECT_THAT(command({0xeb}), ElementsAre(0xfa, 0x08, 0x05, 0x00));
}

TEST_F(Ps2MouseTest, WrapModeSendsBytesBack) {
  EXPECT_THAT(command({0xee, 0xf4, 0x12}), ElementsAre(0xfa, 0xf4, 0x12));
  EXPECT_FALSE(mouse_.active());
  EXPECT_THAT(command({0xec, 0xf2}), ElementsAre(0xfa, 0xfa, 0x00));
  EXPECT_THAT(command({0xee, 0xff}), ElementsAre(0xfa, 0xfa, 0xaa, 0x00));
  EXPECT_THAT(command({0xf2}), ElementsAre(0xfa, 0x00));
}

TEST_F(Ps2MouseTest, ChecksParameters) {
  EXPECT_THAT(command({0xe8, 3}), ElementsAre(0xfa, 0xfa));
  EXPECT_THAT(command({0xe8, 4}), ElementsAre(0xfa, 0xfe));
  EXPECT_THAT(command({0xf3, 40}), ElementsAre(0xfa, 0xfa));
  EXPECT_THAT(command({0xf3, 41}), ElementsAre(0xfa, 0xfe));
  EXPECT_THAT(command({0xe9}), ElementsAre(0xfa, 0x00, 3, 40));
  EXPECT_THAT(command({0xf6, 0xe9}), ElementsAre(0xfa, 0xfa, 0x00, 2, 100));
  EXPECT_THAT(command({0x12}), ElementsAre(0xfe));
  EXPECT_THAT(command({0xe1}), ElementsAre(0xfe)) << "it is no TrackPoint";
}

TEST_F(Ps2MouseTest, SendsItsLastPacketAgain) {
  enable();
  mouse_.move_by(1, 2);
  (void)read_all();
  EXPECT_THAT(command({0xfe}), ElementsAre(0x28, 0x01, 0xfe));
}

TEST_F(Ps2MouseTest, NeverHoldsMoreThanItsBuffers) {
  for (int i = 0; i < 10'000; ++i) {
    mouse_.key(BTN_LEFT, i % 2 == 0);
    mouse_.move_by(i, -i);
    write_command(0xd4);
    write_data(static_cast<uint8_t>(i * 7));
  }
  const auto state = mouse_.state();
  EXPECT_LE(state.motions.size(), Ps2Mouse::kMaxMotions);
  EXPECT_LE(state.replies.size(), kPs2MaxReplyBytes);
  EXPECT_LE(state.packet.size(), Ps2Mouse::kMaxPacketBytes);
}

}  // namespace
}  // namespace wick::devices
