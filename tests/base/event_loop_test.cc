#include "base/event_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "tests/fakes/wait_for.h"

namespace wick {
namespace {

using std::chrono::microseconds;
using testing::ElementsAre;

// Runs on this thread, until a callback stops it.
class EventLoopTest : public testing::Test {
 protected:
  // Callbacks that are ready now run before the loop ends.
  void run_once() {
    loop_->stop();
    loop_->run();
  }

  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  EventFd first_ = EventFd::create().value();
  EventFd second_ = EventFd::create().value();
};

TEST_F(EventLoopTest, CallsBackForWhatIsReady) {
  int calls = 0;
  const auto watch = loop_->watch(first_.fd(), EPOLLIN, [&](uint32_t events) {
    EXPECT_EQ(events, EPOLLIN);
    first_.consume();
    ++calls;
  });
  run_once();
  EXPECT_EQ(calls, 0);
  first_.signal();
  run_once();
  EXPECT_EQ(calls, 1);
  run_once();
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, ForgetsAWatchThatIsGone) {
  int calls = 0;
  {
    const auto watch = loop_->watch(first_.fd(), EPOLLIN, [&](uint32_t) { ++calls; });
    first_.signal();
  }
  run_once();
  EXPECT_EQ(calls, 0);
}

TEST_F(EventLoopTest, LetsAWatchGoInItsOwnCallback) {
  int calls = 0;
  EventLoop::Watch watch;
  auto alive = std::make_shared<int>(42);
  watch = loop_
              ->watch(first_.fd(), EPOLLIN,
                      [&, alive](uint32_t) {
                        watch.reset();
                        EXPECT_EQ(*alive, 42);  // the captures of the callback are still alive
                        ++calls;
                      })
              .value();
  first_.signal();  // never consumed, so a level-triggered event would come again
  run_once();
  run_once();
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(watch.active());
  EXPECT_EQ(alive.use_count(), 1);
}

TEST_F(EventLoopTest, LetsAWatchGoInTheCallbackOfAnotherOfTheSameRound) {
  std::array<EventLoop::Watch, 2> watches;
  int calls = 0;
  const std::array<EventFd*, 2> fds = {&first_, &second_};
  for (size_t i = 0; i < 2; ++i) {
    watches[i] = loop_
                     ->watch(fds[i]->fd(), EPOLLIN,
                             [&, i](uint32_t) {
                               ++calls;
                               watches[1 - i].reset();
                               watches[i].reset();
                             })
                     .value();
  }
  first_.signal();
  second_.signal();
  run_once();
  EXPECT_EQ(calls, 1);  // the first to run has removed the other
}

TEST_F(EventLoopTest, ReplacesAWatchInItsOwnCallback) {
  std::vector<int> calls;
  EventLoop::Watch watch;
  watch = loop_
              ->watch(first_.fd(), EPOLLIN,
                      [&](uint32_t) {
                        calls.push_back(1);
                        watch.reset();
                        watch = loop_
                                    ->watch(first_.fd(), EPOLLIN,
                                            [&](uint32_t) {
                                              calls.push_back(2);
                                              first_.consume();
                                            })
                                    .value();
                      })
              .value();
  first_.signal();
  run_once();
  run_once();
  EXPECT_THAT(calls, ElementsAre(1, 2));
}

// A callback owns a session with a second watch, which is destroyed while the loop cleans up
// the first.
TEST_F(EventLoopTest, LetsACallbackOwnAnotherWatch) {
  std::vector<EventFd> fds;
  for (int i = 0; i < 20; ++i) fds.push_back(EventFd::create().value());
  for (const bool run : {true, false}) {
    for (size_t i = 0; i < fds.size(); i += 2) {
      auto inner = std::make_shared<EventLoop::Watch>(
          loop_->watch(fds[i].fd(), EPOLLIN, [](uint32_t) {}).value());
      auto outer = loop_->watch(fds[i + 1].fd(), EPOLLIN, [inner](uint32_t) {}).value();
    }
    if (run) run_once();
  }
  loop_.reset();  // while the second watch is not cleaned up yet
}

TEST_F(EventLoopTest, WaitsForWhatTheWatchAsksNow) {
  std::array<int, 2> pair;
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  const Fd near(pair[0]);
  Fd far(pair[1]);
  std::vector<uint32_t> seen;
  auto watch =
      loop_->watch(near.get(), 0, [&](uint32_t events) { seen.push_back(events); }).value();
  ASSERT_EQ(::write(far.get(), "x", 1), 1);
  run_once();
  EXPECT_TRUE(seen.empty());
  watch.set_events(EPOLLIN | EPOLLOUT);
  run_once();
  EXPECT_THAT(seen, ElementsAre(EPOLLIN | EPOLLOUT));
  watch.set_events(0);
  run_once();
  EXPECT_EQ(seen.size(), 1u);
  // epoll(7): the end of a stream cannot be masked.
  far.close();
  run_once();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[1] & EPOLLHUP, EPOLLHUP);
}

TEST_F(EventLoopTest, RefusesToWatchARegularFile) {
  const Fd file(::memfd_create("file", MFD_CLOEXEC));
  const auto watch = loop_->watch(file.get(), EPOLLIN, [](uint32_t) {});
  ASSERT_FALSE(watch);
  EXPECT_EQ(watch.error().code, EPERM);
}

TEST_F(EventLoopTest, ServesMoreDescriptorsThanOneRoundHolds) {
  std::vector<EventFd> fds;
  std::vector<EventLoop::Watch> watches;
  int calls = 0;
  for (int i = 0; i < 100; ++i) {
    fds.push_back(EventFd::create().value());
    const EventFd& fd = fds.back();
    watches.push_back(loop_
                          ->watch(fd.fd(), EPOLLIN | EPOLLET,
                                  [&](uint32_t) {
                                    if (++calls == 100) loop_->stop();
                                  })
                          .value());
    fd.signal();
  }
  loop_->run();
  EXPECT_EQ(calls, 100);
}

// --- post ---

TEST_F(EventLoopTest, RunsPostedFunctionsInOrder) {
  std::vector<int> order;
  for (int i = 0; i < 5; ++i) loop_->post([&order, i] { order.push_back(i); });
  run_once();
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
}

TEST_F(EventLoopTest, RunsWhatAPostedFunctionPostsLaterButBeforeItEnds) {
  std::vector<int> order;
  loop_->post([&] {
    loop_->post([&] { order.push_back(3); });
    order.push_back(1);
  });
  loop_->post([&] { order.push_back(2); });
  run_once();
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST_F(EventLoopTest, PostedFunctionsDoNotKeepOthersWaiting) {
  int posts = 0;
  std::function<void()> again = [&] {
    ++posts;
    loop_->post(again);
  };
  auto watch = loop_->watch(first_.fd(), EPOLLIN, [&](uint32_t) {
    again = [] {};
    first_.consume();
    loop_->stop();
  });
  loop_->post(again);
  first_.signal();
  loop_->run();
  SUCCEED();
}

// A guest that always has more to do must not keep the run from ending.
TEST_F(EventLoopTest, StopsAlthoughPostedFunctionsPostThemselvesAgain) {
  constexpr int kGivesUp = 100'000;
  EventLoop& loop = *loop_;
  int turns = 0;
  std::function<void()> again = [&] {
    if (++turns < kGivesUp) loop.post(again);
  };
  loop.post(again);
  loop.stop();
  loop.run();
  EXPECT_LT(turns, 10);
  loop_.reset();  // before the posted functions refer to dead objects
}

// vCPUs that reset devices in a loop do this.
TEST_F(EventLoopTest, StopsAlthoughOtherThreadsCallWithoutEnd) {
  constexpr int kGivesUp = 4000;
  std::atomic<bool> stopped = false;
  std::atomic<int> waits = 0;
  std::jthread runner([&] {
    loop_->run();
    stopped = true;
  });
  std::vector<std::jthread> guests;
  for (int i = 0; i < 8; ++i)
    guests.emplace_back([&] {
      while (!stopped && waits < kGivesUp)
        loop_->call([&] {
          ++waits;
          ::usleep(500);  // gives the others time to post again
        });
    });
  EXPECT_TRUE(fakes::wait_for([&] { return waits > 20; }));
  loop_->stop();
  runner.join();
  EXPECT_LT(waits, kGivesUp);
}

TEST_F(EventLoopTest, NobodyWaitsForEverForALoopThatStopped) {
  for (int life = 0; life < 200; ++life) {
    std::jthread runner([&] { loop_->run(); });
    std::jthread guest([&] {
      for (int i = 0; i < 20; ++i) loop_->call([] {});
    });
    loop_->stop();
  }
}

// A guest that posts without end must not delay signals, timers and keys.
TEST_F(EventLoopTest, PostsWithoutEndDelayATimerOrADescriptorByOneRoundOnly) {
  int posts = 0;
  int posts_at_signal = -1;
  EventLoop& loop = *loop_;
  std::function<void()> again = [&] {
    if (++posts == 1000) first_.signal();
    if (posts < 100'000) loop.post(again);
  };
  auto watch = loop.watch(first_.fd(), EPOLLIN,
                          [&](uint32_t) {
                            first_.consume();
                            posts_at_signal = posts;
                            loop.stop();
                          })
                   .value();
  loop.post(again);
  loop.run();
  EXPECT_LE(posts_at_signal, 1002);
  watch.reset();
  loop_.reset();
}

TEST_F(EventLoopTest, RunsLatePostsWhenItIsDestroyed) {
  run_once();
  bool ran = false;
  loop_->post([&] { ran = true; });
  EXPECT_FALSE(ran);
  loop_.reset();
  EXPECT_TRUE(ran);
}

TEST_F(EventLoopTest, MayBeStoppedBeforeItRuns) {
  loop_->stop();
  loop_->run();
  // And run again.
  bool ran = false;
  loop_->post([&] {
    ran = true;
    loop_->stop();
  });
  loop_->run();
  EXPECT_TRUE(ran);
}

TEST_F(EventLoopTest, CallRunsAtOnceWhenNobodyRunsTheLoop) {
  std::thread::id where;
  loop_->call([&] { where = std::this_thread::get_id(); });
  EXPECT_EQ(where, std::this_thread::get_id());
}

// vCPUs that reset their devices while the main loop ends or starts do this.
TEST_F(EventLoopTest, CallsRunOneAtATimeWhoeverRunsTheLoop) {
  std::atomic<int> inside = 0;
  int ran = 0;  // not atomic: one at a time
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 2000; ++round) {
        loop_->call([&] {
          EXPECT_EQ(++inside, 1);
          ++ran;
          --inside;
        });
      }
    });
  }
  for (int i = 0; i < 200; ++i) run_once();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ran, 8000);
}

// --- the end of a round ---

TEST_F(EventLoopTest, EndsEachRoundOnce) {
  int ends = 0;
  const auto round_end = loop_->at_round_end([&] {
    ++ends;
    return false;
  });
  run_once();
  EXPECT_EQ(ends, 1);
  loop_->post([&] { loop_->stop(); });
  loop_->run();
  EXPECT_EQ(ends, 2);
}

TEST_F(EventLoopTest, SeesWhatTheEndOfARoundPosts) {
  bool posted = false;
  bool ran = false;
  const auto round_end = loop_->at_round_end([&] {
    if (std::exchange(posted, true)) return false;
    loop_->post([&] {
      ran = true;
      loop_->stop();
    });
    return false;
  });
  loop_->run();
  EXPECT_TRUE(ran);
}

TEST_F(EventLoopTest, DoesNotSleepWhileWorkIsLeft) {
  int ends = 0;
  const auto round_end = loop_->at_round_end([&] {
    if (++ends == 3) loop_->stop();
    return ends < 3;
  });
  loop_->run();
  EXPECT_EQ(ends, 3);
}

TEST_F(EventLoopTest, HearsOfStopEvenIfWorkIsAlwaysLeft) {
  const auto round_end = loop_->at_round_end([] { return true; });
  std::thread stopper([&] { loop_->stop(); });
  loop_->run();
  stopper.join();
}

TEST_F(EventLoopTest, EndsRoundsInTheOrderOfRegistrationUntilTheEndIsDestroyed) {
  std::string order;
  const auto note = [&](char name) {
    return [&order, name] {
      order += name;
      return false;
    };
  };
  auto first = loop_->at_round_end(note('a'));
  auto second = loop_->at_round_end(note('b'));
  const auto third = loop_->at_round_end(note('c'));
  run_once();
  EXPECT_EQ(order, "abc");
  second.reset();
  first = {};
  run_once();
  EXPECT_EQ(order, "abcc");
}

// --- timers ---

TEST_F(EventLoopTest, TimerFiresOnce) {
  int fired = 0;
  const auto timer = loop_->timer([&] {
    ++fired;
    loop_->stop();
  });
  timer->arm(microseconds(0));
  loop_->run();
  EXPECT_EQ(fired, 1);
  ::usleep(2000);
  run_once();
  EXPECT_EQ(fired, 1);
}

TEST_F(EventLoopTest, DisarmedTimerDoesNotFire) {
  int fired = 0;
  const auto timer = loop_->timer([&] { ++fired; });
  timer->arm(microseconds(1));
  ::usleep(2000);  // expired, not yet seen
  timer->disarm();
  run_once();
  EXPECT_EQ(fired, 0);
}

TEST_F(EventLoopTest, ArmingAgainMovesTheDeadline) {
  int fired = 0;
  const auto timer = loop_->timer([&] {
    ++fired;
    loop_->stop();
  });
  timer->arm(std::chrono::hours(1));
  timer->arm(microseconds(1));
  loop_->run();
  EXPECT_EQ(fired, 1);
  timer->arm(microseconds(1));
  timer->arm(std::chrono::hours(1));
  ::usleep(2000);
  run_once();
  EXPECT_EQ(fired, 1);
}

TEST_F(EventLoopTest, TimerMayArmItself) {
  int fired = 0;
  std::optional<EventLoop::Timer> timer;
  timer.emplace(loop_
                    ->timer([&] {
                      if (++fired == 5)
                        loop_->stop();
                      else
                        timer->arm(microseconds(1));
                    })
                    .value());
  timer->arm(microseconds(1));
  loop_->run();
  EXPECT_EQ(fired, 5);
}

TEST_F(EventLoopTest, TimerMayEndItself) {
  int fired = 0;
  std::optional<EventLoop::Timer> timer;
  timer.emplace(loop_
                    ->timer([&] {
                      ++fired;
                      timer.reset();
                      loop_->stop();
                    })
                    .value());
  timer->arm(microseconds(1));
  loop_->run();
  EXPECT_EQ(fired, 1);
}

}  // namespace
}  // namespace wick
