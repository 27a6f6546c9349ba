// Tests the interrupts and notifications of virtqueues.
#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <atomic>
#include <thread>

#include "base/fd.h"
#include "tests/fakes/wait_for.h"
#include "tests/virtio/queue_fixture.h"

namespace wick::virtio {
namespace {

TEST_F(VirtQueueTest, WantsAnInterruptOnlyForWhatIsNew) {
  start({});
  EXPECT_FALSE(queue_->interrupt_needed());
  round_trip();
  EXPECT_TRUE(queue_->interrupt_needed());
  EXPECT_FALSE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, SuppressesInterruptsByFlag) {
  start({});
  driver_->refuse_interrupts();
  round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
  driver_->want_interrupts();
  round_trip();
  EXPECT_TRUE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, IgnoresTheFlagWithEventIndex) {
  start({.event_index = true});
  driver_->refuse_interrupts();  // 2.7.7.1: the device must ignore it
  round_trip();
  EXPECT_TRUE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, InterruptsWhenTheUsedIndexPassesTheEventIndex) {
  start({.event_index = true});
  driver_->want_interrupt_after(2);
  round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
  round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
  round_trip();  // writes entry 2
  EXPECT_TRUE(queue_->interrupt_needed());
  round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, InterruptsOnceForABatchOverTheEventIndex) {
  start({.event_index = true});
  driver_->want_interrupt_after(3);
  for (int i = 0; i < 10; ++i) round_trip();
  EXPECT_TRUE(queue_->interrupt_needed());
  for (int i = 0; i < 10; ++i) round_trip();
  EXPECT_FALSE(queue_->interrupt_needed());
}

TEST_F(VirtQueueTest, InterruptsAcrossTheWrapOfTheEventIndex) {
  start({.size = 4, .event_index = true});
  // A driver that requests an interrupt for every chain gets all of them.
  for (int i = 0; i < 70'000; ++i) {
    driver_->want_interrupt_after(static_cast<uint16_t>(i));
    ASSERT_NO_FATAL_FAILURE(round_trip());
    ASSERT_TRUE(queue_->interrupt_needed()) << i;
  }
}

TEST_F(VirtQueueTest, InterruptsForABatchThatWraps) {
  start({.size = 4, .event_index = true});
  for (int i = 0; i < 65'534; ++i) ASSERT_NO_FATAL_FAILURE(round_trip());
  (void)queue_->interrupt_needed();
  for (const uint16_t event : std::to_array<uint16_t>({65535, 0, 3})) {
    driver_->want_interrupt_after(event);
    round_trip();  // entries 65534 and 65535, then 0 and 1, then 2 and 3
    round_trip();
    EXPECT_TRUE(queue_->interrupt_needed()) << event;
  }
}

TEST_F(VirtQueueTest, SilencesTheDriverByFlag) {
  start({});
  queue_->disable_notifications();
  driver_->chain().writable(1).publish();
  EXPECT_FALSE(driver_->kick_wanted());
  EXPECT_TRUE(pop());
  EXPECT_FALSE(queue_->enable_notifications());
  driver_->chain().writable(1).publish();
  EXPECT_TRUE(driver_->kick_wanted());
}

TEST_F(VirtQueueTest, SilencesTheDriverByEventIndex) {
  start({.event_index = true});
  EXPECT_FALSE(queue_->enable_notifications());
  driver_->chain().writable(1).publish();
  EXPECT_TRUE(driver_->kick_wanted());
  queue_->disable_notifications();
  driver_->chain().writable(1).publish();
  EXPECT_FALSE(driver_->kick_wanted());
  EXPECT_TRUE(pop());
  EXPECT_TRUE(pop());
  EXPECT_FALSE(queue_->enable_notifications());
  EXPECT_EQ(driver_->available_event(), 2);
  driver_->chain().writable(1).publish();
  EXPECT_TRUE(driver_->kick_wanted());
}

TEST_F(VirtQueueTest, SaysThatSomethingCameWhileNotificationsWereOff) {
  for (const bool event_index : {false, true}) {
    start({.event_index = event_index});
    queue_->disable_notifications();
    EXPECT_FALSE(pop());
    driver_->chain().writable(1).publish();
    EXPECT_TRUE(queue_->enable_notifications());
  }
}

TEST_F(VirtQueueTest, WantsKicksAcrossTheWrap) {
  start({.size = 4, .event_index = true});
  for (int i = 0; i < 70'000; ++i) {
    ASSERT_FALSE(queue_->enable_notifications());
    const auto request = driver_->chain().writable(1).publish();
    ASSERT_TRUE(driver_->kick_wanted()) << i;
    std::move(*pop()).complete(1);
    ASSERT_EQ(driver_->take_used()->head, request.head);
  }
}

// Both ends sleep whenever the rules allow it: the driver until an interrupt, the device
// until a kick. Neither may sleep forever.
class VirtQueueRace : public VirtQueueTest, public testing::WithParamInterface<bool> {
 protected:
  // Returns without an event only if the test was stopped.
  static bool sleep_until(const EventFd& event) {
    pollfd entry{.fd = event.fd(), .events = POLLIN, .revents = 0};
    (void)::poll(&entry, 1, 100);
    return event.consume();
  }
};

TEST_P(VirtQueueRace, LosesNoWakeUp) {
  constexpr int kRequests = 20'000;
  start({.size = 4, .event_index = GetParam(), .indirect = false});
  EventFd kick = EventFd::create().value();
  EventFd interrupt = EventFd::create().value();
  std::atomic<int> completed = 0;
  std::atomic<bool> stop = false;

  std::thread device([&] {
    while (!stop) {
      if (!sleep_until(kick)) continue;
      do {
        queue_->disable_notifications();
        for (;;) {
          auto popped = queue_->pop();
          ASSERT_TRUE(popped) << popped.error().message();
          if (!*popped) break;
          std::move(**popped).complete(1);
        }
        if (queue_->interrupt_needed()) interrupt.signal();
      } while (queue_->enable_notifications());
    }
  });

  std::thread driver([&] {
    int published = 0;
    while (completed < kRequests && !stop) {
      bool any = false;
      while (published < kRequests && driver_->has_descriptors(1)) {
        driver_->chain().writable(1).publish();
        ++published;
        any = true;
      }
      if (any && driver_->kick_wanted()) kick.signal();
      // Requests an interrupt, checks the ring once more, and sleeps until the interrupt.
      driver_->want_interrupt_after(driver_->used_seen());
      if (driver_->used_index() == driver_->used_seen())
        while (!sleep_until(interrupt) && !stop) continue;
      while (driver_->take_used()) ++completed;
    }
  });

  // On a slow host too, there must always be progress.
  int before = -1;
  while (completed < kRequests && fakes::wait_for([&] { return completed != before; }))
    before = completed;
  stop = true;
  driver.join();
  device.join();
  EXPECT_EQ(completed, kRequests) << "stuck";
}

INSTANTIATE_TEST_SUITE_P(, VirtQueueRace, testing::Bool(),
                         [](const auto& param) { return param.param ? "EventIndex" : "Flags"; });

}  // namespace
}  // namespace wick::virtio
