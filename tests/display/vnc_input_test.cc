// Keys and pointer of a VNC client.
#include "display/vnc_input.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/display/fake_screen.h"

namespace wick::display {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(VncInput, RepeatsAHeldKey) {
  RecordingInput sink;
  VncInput input(sink);
  input.key('a', true);
  input.key('a', true);
  input.key('a', false);
  EXPECT_THAT(sink.calls(), ElementsAre("30 down", "30 down", "30 up"));
}

// Shift is let go before the key, so the client releases another symbol than it pressed.
TEST(VncInput, ReleasesAKeyByItsOtherSymbol) {
  RecordingInput sink;
  VncInput input(sink);
  input.key('A', true);
  input.key('a', false);
  EXPECT_THAT(sink.calls(), ElementsAre("30 down", "30 up"));
}

TEST(VncInput, DoesNotReleaseWhatItDoesNotHold) {
  RecordingInput sink;
  VncInput input(sink);
  input.key('a', false);
  input.extended_key('a', KEY_A, false);
  input.release_all();
  EXPECT_THAT(sink.calls(), IsEmpty());
}

TEST(VncInput, ReleasesKeysAndButtonsOnce) {
  RecordingInput sink;
  VncInput input(sink);
  input.key(0xffe3, true);
  input.pointer(0b111, 0, 0, 100, 100);
  sink.clear();
  input.release_all();
  input.release_all();
  EXPECT_THAT(sink.calls(),
              ElementsAre("29 up", fmt::format("{} up", BTN_LEFT), fmt::format("{} up", BTN_RIGHT),
                          fmt::format("{} up", BTN_MIDDLE)));
}

TEST(VncInput, MovesOverTheWholeRangeForAnySize) {
  RecordingInput sink;
  VncInput input(sink);
  input.pointer(0, 0, 0, 4096, 4096);
  input.pointer(0, 4095, 4095, 4096, 4096);
  input.pointer(0, 65535, 0, 4096, 4096);
  input.pointer(0, 0, 1, 1, 2);
  input.pointer(0, 7, 7, 0, 0);
  EXPECT_THAT(sink.calls(),
              ElementsAre("to 0 0", "to 32767 32767", "to 32767 0", "to 0 32767", "to 0 0"));
}

TEST(VncInput, MovesBeforeItClicksAndOnlyIfThePlaceChanges) {
  RecordingInput sink;
  VncInput input(sink);
  input.pointer(1, 50, 50, 101, 101);
  input.pointer(0, 50, 50, 101, 101);
  EXPECT_THAT(sink.calls(), ElementsAre("to 16383 16383", fmt::format("{} down", BTN_LEFT),
                                        fmt::format("{} up", BTN_LEFT)));
}

TEST(VncInput, ScrollsOncePerPressOfTheWheel) {
  RecordingInput sink;
  VncInput input(sink);
  for (const uint32_t buttons : {8u, 8u, 0u, 8u, 16u, 0u}) input.pointer(buttons, 0, 0, 10, 10);
  EXPECT_THAT(sink.calls(), ElementsAre("to 0 0", "scroll 1", "scroll 1", "scroll -1"));
}

}  // namespace
}  // namespace wick::display
