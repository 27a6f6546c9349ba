#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace wick {
namespace {

class RateLimitTest : public testing::Test {
 protected:
  RateLimitTest() {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(out_);
    auto logger = std::make_shared<spdlog::logger>("test", sink);
    logger->set_pattern("%v");
    spdlog::set_default_logger(logger);
  }
  ~RateLimitTest() override { spdlog::set_default_logger(before_); }

  long lines() const { return std::ranges::count(out_.str(), '\n'); }

  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
  std::ostringstream out_;
  RateLimit limit_;
};

TEST_F(RateLimitTest, LetsTheFirstLinesThrough) {
  for (int i = 0; i < 3; ++i) limit_.warn("line {}", i);
  EXPECT_EQ(out_.str(), "line 0\nline 1\nline 2\n");
}

TEST_F(RateLimitTest, BoundsWhatAHostileGuestCanWrite) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 100'000; ++i) limit_.warn("again");
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin)
          .count();
  EXPECT_GE(lines(), 5);
  EXPECT_LE(lines(), (seconds + 2) * 6);  // in each second five lines and the count of dropped ones
}

TEST_F(RateLimitTest, SaysHowManyLinesItLeftOut) {
  const auto now = [] {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  const auto second = now();
  for (int i = 0; i < 100; ++i) limit_.warn("again");
  const bool one_second = now() == second;
  while (now() == second) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  limit_.warn("later");
  EXPECT_THAT(out_.str(), testing::HasSubstr("similar messages left out"));
  EXPECT_THAT(out_.str(), testing::EndsWith("later\n"));
  if (one_second) {
    EXPECT_THAT(out_.str(), testing::HasSubstr("(95 similar messages left out)"));
  }
}

TEST_F(RateLimitTest, TakesManyThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([this] {
      for (int n = 0; n < 2000; ++n) limit_.warn("again");
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(lines(), 1);
  EXPECT_LE(lines(), 200);
}

}  // namespace
}  // namespace wick
