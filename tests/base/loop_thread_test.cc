// Tests a loop on a thread of its own.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <optional>
#include <thread>
#include <vector>

#include "base/event_loop.h"
#include "tests/fakes/wait_for.h"

namespace wick {
namespace {

using std::chrono::microseconds;

TEST(LoopThread, CallRunsOnTheLoopsThreadAndWaits) {
  const auto thread = LoopThread::start("test").value();
  std::thread::id where;
  thread->loop().call([&] { where = std::this_thread::get_id(); });
  EXPECT_NE(where, std::thread::id());
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST(LoopThread, CallReturnsWhatTheFunctionReturns) {
  const auto thread = LoopThread::start("test").value();
  EXPECT_EQ(thread->loop().call([] { return std::string("done"); }), "done");
  const auto refused = thread->loop().call([]() -> Result<int> { return fail("refused"); });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "refused");
}

TEST(LoopThread, CallOnTheLoopsOwnThreadDoesNotWaitForItself) {
  const auto thread = LoopThread::start("test").value();
  bool inner = false;
  thread->loop().call([&] {
    thread->loop().call([&] { inner = true; });
    EXPECT_TRUE(inner);
  });
  EXPECT_TRUE(inner);
}

TEST(LoopThread, CallWorksAfterTheThreadEnded) {
  const auto thread = LoopThread::start("test").value();
  thread->stop();
  bool ran = false;
  thread->loop().call([&] { ran = true; });
  EXPECT_TRUE(ran);
  thread->stop();
}

TEST(LoopThread, RunsEverythingThatWasPostedBeforeItStopped) {
  for (int life = 0; life < 50; ++life) {
    int ran = 0;  // the loop's, until the thread is joined
    const auto thread = LoopThread::start("test").value();
    for (int i = 0; i < 100; ++i) thread->loop().post([&] { ++ran; });
    thread->stop();
    EXPECT_EQ(ran, 100);
  }
}

TEST(LoopThread, TakesPostsFromManyThreads) {
  const auto thread = LoopThread::start("test").value();
  int ran = 0;
  std::vector<std::thread> posters;
  for (int poster = 0; poster < 4; ++poster) {
    posters.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        thread->loop().post([&] { ++ran; });
        if (i % 10 == 0) thread->loop().call([&] { ++ran; });
      }
    });
  }
  for (std::thread& poster : posters) poster.join();
  thread->stop();
  EXPECT_EQ(ran, 4 * 550);
}

TEST(LoopThread, IsNamedAndBlocksSignals) {
  const auto thread = LoopThread::start("a-name-too-long-for-linux").value();
  std::array<char, 32> name{};
  sigset_t blocked;
  sigemptyset(&blocked);
  thread->loop().call([&] {
    pthread_getname_np(pthread_self(), name.data(), name.size());
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  });
  EXPECT_STREQ(name.data(), "a-name-too-long");
  EXPECT_EQ(sigismember(&blocked, SIGTERM), 1);
  EXPECT_EQ(sigismember(&blocked, SIGINT), 1);
  sigset_t ours;
  pthread_sigmask(SIG_SETMASK, nullptr, &ours);
  EXPECT_EQ(sigismember(&ours, SIGTERM), 0);
}

TEST(LoopThreadDeathTest, ThatTheHostHasNoRoomForIsAnError) {
  EXPECT_EXIT(
      {
        const rlimit no_processes{};
        (void)::setrlimit(RLIMIT_NPROC, &no_processes);
        (void)!::setuid(65534);  // root has no such limit
        const auto thread = LoopThread::start("disk-vda");
        std::fputs(thread ? "started" : thread.error().message().c_str(), stderr);
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "disk-vda: cannot start a thread: Resource temporarily");
}

TEST(LoopThread, TimersTakeOrdersFromOtherThreads) {
  std::atomic<int> fired = 0;
  const auto thread = LoopThread::start("test").value();
  std::optional<EventLoop::Timer> timer;
  thread->loop().call([&] { timer.emplace(thread->loop().timer([&] { ++fired; }).value()); });
  for (int i = 1; i <= 20; ++i) {
    timer->arm(std::chrono::hours(1));
    timer->disarm();
    timer->arm(microseconds(10));
    ASSERT_TRUE(fakes::wait_for([&] { return fired == i; }));
  }
  thread->loop().call([&] { timer.reset(); });
}

}  // namespace
}  // namespace wick
