#include "console/input_queue.h"

#include "tests/console/fakes.h"

namespace wick::console {
namespace {

TEST(InputQueue, KeepsWhatTheGuestHasNoRoomFor) {
  FakeGuest guest;
  InputQueue queue;
  queue.push(bytes("hello"));
  queue.drain();  // there is no guest yet
  queue.connect(guest);
  guest.room = 2;
  queue.drain();
  EXPECT_EQ(guest.taken, "he");
  EXPECT_EQ(queue.room(), InputQueue::kRoomBytes - 3);
  guest.room = 10;
  queue.push(bytes(" world"));
  queue.drain();
  EXPECT_EQ(guest.taken, "hello world");
  EXPECT_EQ(queue.room(), InputQueue::kRoomBytes);
}

TEST(InputQueue, KeepsABreakInItsPlace) {
  FakeGuest guest;
  guest.room = 1;
  InputQueue queue;
  queue.connect(guest);
  queue.push(bytes("ab"));
  queue.push_break();
  queue.push_break();
  queue.push(bytes("c"));
  queue.drain();
  EXPECT_EQ(guest.taken, "a");
  guest.room = 1;
  queue.drain();
  EXPECT_EQ(guest.taken, "ab<BREAK><BREAK>");
  guest.room = 1;
  queue.drain();
  EXPECT_EQ(guest.taken, "ab<BREAK><BREAK>c");
}

TEST(InputQueue, TakesMoreThanItsRoomWhenItMust) {
  FakeGuest guest;
  guest.room = 0;
  InputQueue queue;
  queue.connect(guest);
  queue.push(bytes(std::string(InputQueue::kRoomBytes + 1, 'x')));
  EXPECT_EQ(queue.room(), 0u);
  guest.room = SIZE_MAX;
  queue.drain();
  EXPECT_EQ(guest.taken.size(), InputQueue::kRoomBytes + 1);
}

TEST(InputQueue, IsBoundedHoweverManyComeAndGo) {
  FakeGuest guest;
  guest.room = 0;
  InputQueue queue;
  queue.connect(guest);
  const std::string text(100'000, 'x');
  size_t kept = 0;
  for (int client = 0; client < 50; ++client) kept += queue.push(bytes(text));
  EXPECT_EQ(kept, InputQueue::kMaxBytes);
  guest.room = SIZE_MAX;
  queue.drain();
  EXPECT_EQ(guest.taken.size(), InputQueue::kMaxBytes);
  EXPECT_EQ(queue.push(bytes(text)), text.size());
}

}  // namespace
}  // namespace wick::console
