#include "block/supervised.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/memory_backend.h"

namespace wick::block {
namespace {

using Delay = fakes::MemoryBackend::Delay;

// Everything runs on the test's thread: the requests are spawned, and the fake disk completes
// them when it is told to.
class SupervisedTest : public testing::Test {
 protected:
  void make(Supervised::Policies policies = {}) {
    auto image = std::make_unique<fakes::MemoryBackend>(*loop_, 1 << 20);
    image_ = image.get();
    disk_ = std::make_unique<Supervised>(
        std::move(image), policies,
        [this](const Supervised::Failure& failure) { failures_.push_back(failure); });
  }
  // Starts a request, whose result is in *the return value when it is done.
  std::shared_ptr<std::optional<Result<void>>> start(bool write) {
    auto result = std::make_shared<std::optional<Result<void>>>();
    spawn([](Supervised& disk, bool writes, std::span<const iovec> buffer,
             std::shared_ptr<std::optional<Result<void>>> out) -> Task<void> {
      Result<void> done;
      if (writes)
        done = co_await disk.write(4096, buffer);
      else
        done = co_await disk.read(4096, buffer);
      out->emplace(std::move(done));
    }(*disk_, write, {&buffer_, 1}, result));
    return result;
  }
  std::shared_ptr<bool> hold() {
    auto held = std::make_shared<bool>(false);
    spawn([](Supervised& disk, std::shared_ptr<bool> out) -> Task<void> {
      co_await disk.hold();
      *out = true;
    }(*disk_, held));
    return held;
  }

  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  std::array<std::byte, 512> bytes_{};
  const iovec buffer_{bytes_.data(), bytes_.size()};
  std::vector<Supervised::Failure> failures_;
  fakes::MemoryBackend* image_ = nullptr;
  std::unique_ptr<Supervised> disk_;
};

TEST_F(SupervisedTest, CountsWhatHasBeenDone) {
  make();
  ASSERT_TRUE(start(false)->value());
  ASSERT_TRUE(start(true)->value());
  ASSERT_TRUE(start(true)->value());
  image_->fail_next(1, EIO);
  ASSERT_FALSE(start(false)->value());
  const Counters counters = disk_->counters();
  EXPECT_EQ(counters.reads, 1u);
  EXPECT_EQ(counters.read_bytes, 512u);
  EXPECT_EQ(counters.writes, 2u);
  EXPECT_EQ(counters.write_bytes, 1024u);
  EXPECT_EQ(counters.failed_reads, 1u);
  EXPECT_EQ(counters.failed_writes, 0u);
}

TEST_F(SupervisedTest, HoldWaitsForWhatIsInFlightAndKeepsNewRequestsBack) {
  make();
  image_->set_delay(Delay::kHeld);
  const auto running = start(true);
  const auto held = hold();
  EXPECT_FALSE(*held);
  const auto later = start(true);
  EXPECT_EQ(image_->calls().writes, 1);
  image_->release_all();
  EXPECT_TRUE(*held);
  EXPECT_TRUE(running->has_value());
  EXPECT_FALSE(later->has_value());
  EXPECT_EQ(image_->calls().writes, 1);
  disk_->release();
  EXPECT_EQ(image_->calls().writes, 2);
  image_->release_all();
  EXPECT_TRUE(later->value());
}

TEST_F(SupervisedTest, ReportsErrorsByDefault) {
  make();
  image_->fail_next(1, ENOSPC);
  const auto result = start(true);
  ASSERT_TRUE(result->has_value());
  EXPECT_EQ(result->value().error().code, ENOSPC);
  ASSERT_EQ(failures_.size(), 1u);
  EXPECT_TRUE(failures_[0].write);
  EXPECT_EQ(failures_[0].action, ErrorPolicy::kReport);
}

TEST_F(SupervisedTest, IgnoresErrorsIfTold) {
  make({.read = ErrorPolicy::kIgnore, .write = ErrorPolicy::kReport});
  image_->fail_next(1, EIO);
  EXPECT_TRUE(start(false)->value());
  image_->fail_next(1, EIO);
  EXPECT_FALSE(start(true)->value());
}

TEST_F(SupervisedTest, ARequestThatStopsTheMachineIsExecutedAgain) {
  make({.read = ErrorPolicy::kReport, .write = ErrorPolicy::kStop});
  image_->fail_next(2, EIO);
  const auto result = start(true);
  EXPECT_FALSE(result->has_value());
  EXPECT_EQ(failures_.size(), 1u);
  EXPECT_TRUE(*hold());  // the waiting request is not in flight
  disk_->release();
  EXPECT_FALSE(result->has_value());  // it failed again
  EXPECT_EQ(failures_.size(), 2u);
  EXPECT_TRUE(*hold());
  disk_->release();
  ASSERT_TRUE(result->has_value());
  EXPECT_TRUE(result->value());
  EXPECT_EQ(disk_->counters().writes, 1u);
  EXPECT_EQ(disk_->counters().failed_writes, 2u);
}

TEST_F(SupervisedTest, EnospcStopsOnlyForWantOfSpace) {
  make({.read = ErrorPolicy::kEnospc, .write = ErrorPolicy::kEnospc});
  image_->fail_next(1, EIO);
  EXPECT_FALSE(start(true)->value());
  image_->fail_next(1, ENOSPC);
  EXPECT_FALSE(start(false)->value()) << "a read needs no space";
  image_->fail_next(1, ENOSPC);
  EXPECT_FALSE(start(true)->has_value());
  EXPECT_EQ(failures_.back().action, ErrorPolicy::kStop);
  disk_->give_up();
}

TEST_F(SupervisedTest, AtTheEndNothingWaitsAnyMore) {
  make({.read = ErrorPolicy::kStop, .write = ErrorPolicy::kStop});
  image_->fail_next(1000, EIO);
  const auto stopped = start(true);
  const auto held = hold();
  const auto waiting = start(false);
  EXPECT_FALSE(stopped->has_value());
  EXPECT_FALSE(waiting->has_value());
  disk_->give_up();
  ASSERT_TRUE(stopped->has_value());
  EXPECT_FALSE(stopped->value());
  ASSERT_TRUE(waiting->has_value());
  EXPECT_FALSE(waiting->value());
}

// A device that is reset waits for its requests.
TEST_F(SupervisedTest, WhatWaitsFailsWhileTheDeviceIsReset) {
  make({.read = ErrorPolicy::kReport, .write = ErrorPolicy::kStop});
  image_->fail_next(1, ENOSPC);
  const auto stopped = start(true);
  ASSERT_TRUE(*hold());
  const auto held = start(false);
  disk_->drain(true);
  ASSERT_TRUE(stopped->has_value());
  EXPECT_EQ(stopped->value().error().code, ENOSPC);
  ASSERT_TRUE(held->has_value());
  EXPECT_EQ(held->value().error().code, ECANCELED);
  disk_->drain(false);
  const auto later = start(false);
  EXPECT_FALSE(later->has_value());
  disk_->release();
  EXPECT_TRUE(later->value());
}

TEST_F(SupervisedTest, TheImageCanBeReplacedWhileRequestsAreHeld) {
  make();
  ASSERT_TRUE(*hold());
  const auto waiting = start(true);
  auto other = std::make_unique<fakes::MemoryBackend>(*loop_, 2 << 20);
  fakes::MemoryBackend& second = *other;
  const auto first = disk_->replace_image(std::move(other));
  disk_->release();
  EXPECT_TRUE(waiting->value());
  EXPECT_EQ(second.calls().writes, 1);
  EXPECT_EQ(image_->calls().writes, 0);
  EXPECT_EQ(disk_->size_bytes(), 2u << 20);
}

}  // namespace
}  // namespace wick::block
