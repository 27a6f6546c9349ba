#include "base/task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"

namespace wick {
namespace {

// Suspends coroutines until the test resumes them.
struct Gate {
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) { waiting.push_back(handle); }
  void await_resume() const {}
  void open() {
    auto handle = waiting.front();
    waiting.pop_front();
    handle.resume();
  }
  std::deque<std::coroutine_handle<>> waiting;
};

TEST(Task, DoesNothingUntilItIsAwaited) {
  bool ran = false;
  {
    const auto task = [](bool& flag) -> Task<void> {
      flag = true;
      co_return;
    }(ran);
  }
  EXPECT_FALSE(ran);
}

TEST(Task, SpawnedTaskRunsUntilItWaitsAndGoesOnLater) {
  Gate gate;
  std::vector<int> steps;
  spawn([](Gate& at, std::vector<int>& log) -> Task<void> {
    log.push_back(1);
    co_await at;
    log.push_back(3);
  }(gate, steps));
  steps.push_back(2);
  gate.open();
  EXPECT_THAT(steps, testing::ElementsAre(1, 2, 3));
}

Task<Result<std::string>> name(Gate& gate, int code) {
  co_await gate;
  if (code != 0) co_return fail_errno(code, "nameless");
  co_return std::string("wick");
}

TEST(Task, CarriesValuesAndErrors) {
  Gate gate;
  std::vector<std::string> names;
  const auto greet = [](Gate& at, std::vector<std::string>& out, int code) -> Task<void> {
    const auto result = co_await name(at, code);
    out.push_back(result ? *result : result.error().message());
  };
  spawn(greet(gate, names, 0));
  spawn(greet(gate, names, EIO));
  EXPECT_TRUE(names.empty());
  gate.open();
  gate.open();
  EXPECT_THAT(names, testing::ElementsAre("wick", "nameless: Input/output error"));
}

TEST(Task, CarriesValuesThatOnlyMove) {
  int value = 0;
  spawn([](int& out) -> Task<void> {
    const auto make = []() -> Task<std::unique_ptr<int>> { co_return std::make_unique<int>(7); };
    out = *co_await make();
  }(value));
  EXPECT_EQ(value, 7);
}

TEST(Task, FinishesInWhateverOrderItIsResumed) {
  Gate first;
  Gate second;
  std::string order;
  const auto step = [](Gate& at, std::string& out, char mark) -> Task<void> {
    co_await at;
    out += mark;
  };
  spawn(step(first, order, 'a'));
  spawn(step(second, order, 'b'));
  second.open();
  first.open();
  EXPECT_EQ(order, "ba");
}

TEST(Task, FreesItsFrameAndArguments) {
  Gate gate;
  auto shared = std::make_shared<int>(1);
  spawn([](Gate& at, std::shared_ptr<int> held) -> Task<void> {
    co_await at;
    EXPECT_EQ(*held, 1);
  }(gate, shared));
  EXPECT_EQ(shared.use_count(), 2);
  gate.open();
  EXPECT_EQ(shared.use_count(), 1);
  {
    const auto never = [](std::shared_ptr<int>) -> Task<void> { co_return; }(shared);
    EXPECT_EQ(shared.use_count(), 2);
  }
  EXPECT_EQ(shared.use_count(), 1);
}

Task<int> depth(Gate& gate, int levels) {
  if (levels == 0) {
    co_await gate;
    co_return 0;
  }
  co_return 1 + co_await depth(gate, levels - 1);
}

TEST(Task, ReturnsThroughManyLevels) {
  Gate gate;
  int reached = -1;
  spawn([](Gate& at, int& out) -> Task<void> { out = co_await depth(at, 1000); }(gate, reached));
  EXPECT_EQ(reached, -1);
  gate.open();
  EXPECT_EQ(reached, 1000);
}

// This must hold with and without optimisation and sanitizers.
TEST(Task, LoopsOverSynchronousTasksWithoutStack) {
  constexpr int kRounds = 1'000'000;  // at 100 bytes each twelve times the stack
  int64_t sum = 0;
  spawn([](int64_t& out) -> Task<void> {
    const auto one = []() -> Task<int> { co_return 1; };
    for (int i = 0; i < kRounds; ++i) out += co_await one();
  }(sum));
  EXPECT_EQ(sum, kRounds);
}

// A Task that really suspends resumes from the loop, on a shallow stack.
TEST(Task, LoopsOverWaitingTasksWithoutStack) {
  const auto loop = EventLoop::create().value();
  struct NextRound {
    EventLoop& on;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) const {
      on.post([handle] { handle.resume(); });
    }
    void await_resume() const {}
  };
  int rounds = 0;
  spawn([](EventLoop& on, int& out) -> Task<void> {
    const auto step = [](EventLoop& where) -> Task<int> {
      co_await NextRound{where};
      co_return 1;
    };
    for (int i = 0; i < 20'000; ++i) out += co_await step(on);
    on.stop();
  }(*loop, rounds));
  loop->run();
  EXPECT_EQ(rounds, 20'000);
}

}  // namespace
}  // namespace wick
