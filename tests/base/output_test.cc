#include "base/output.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <regex>

#include "tests/console/fakes.h"

namespace wick {
namespace {

using console::make_pipe;
using console::Pair;
using console::receive;
using ::testing::EndsWith;
using ::testing::HasSubstr;

// Log messages go into a pipe.
class LogTest : public ::testing::Test {
 protected:
  LogTest() { set_up_log(pipe_.write.get()); }
  ~LogTest() override {
    spdlog::set_default_logger(before_);
    std::signal(SIGPIPE, SIG_DFL);
  }

  std::string read() const {
    std::string text;
    receive(pipe_.read, text);
    return text;
  }

  const Pair pipe_ = make_pipe();
  const std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST_F(LogTest, SaysWhoSpeaksAndHowSerious) {
  spdlog::warn("disk.img: {} left", 3);
  spdlog::error("gone");
  EXPECT_EQ(read(), "wick: warning: disk.img: 3 left\nwick: error: gone\n");
}

// Such text can come from the name of a backing file in an image's header.
TEST_F(LogTest, NothingThatATerminalObeysIsLeft) {
  spdlog::warn("{}: cannot open",
               "\x1b]0;title\x07\x9b"
               "2J\u0085\r\nwick: error: forged\xff");
  EXPECT_EQ(read(),
            "wick: warning: \\x1b]0;title\\x07\\x9b2J\\xc2\\x85\\x0d\\x0awick: error: "
            "forged\\xff: cannot open\n");
}

TEST_F(LogTest, APipeThatNobodyReadsBlocksNobody) {
  ASSERT_GT(::fcntl(pipe_.write.get(), F_SETPIPE_SZ, 4096), 0);
  constexpr int kMessages = 5000;
  for (int i = 0; i < kMessages; ++i) spdlog::warn("message {}", i);
  std::string text = read();
  EXPECT_THAT(text, HasSubstr("message 0\n"));
  spdlog::warn("later");
  text += read();
  EXPECT_THAT(text, EndsWith("wick: warning: later\n"));
  // Each message has arrived or is counted.
  std::smatch match;
  ASSERT_TRUE(
      std::regex_search(text, match, std::regex("wick: warning: (\\d+) messages were dropped")))
      << text;
  const auto arrived = std::count(text.begin(), text.end(), '\n') - 2;  // without these two
  EXPECT_EQ(arrived + std::stoi(match[1]), kMessages);
}

TEST_F(LogTest, LongMessagesArriveWhole) {
  ASSERT_GT(::fcntl(pipe_.write.get(), F_SETPIPE_SZ, 4096), 0);
  const std::string message(30'000, 'x');
  spdlog::warn(message);
  std::string text;
  for (int i = 0; i < 20; ++i) {
    text += read();
    spdlog::default_logger()->flush();
  }
  EXPECT_EQ(text, "wick: warning: " + message + "\n");
}

TEST_F(LogTest, TheCountIsSaidAtTheEndIfNoMessageComes) {
  ASSERT_GT(::fcntl(pipe_.write.get(), F_SETPIPE_SZ, 4096), 0);
  for (int i = 0; i < 1000; ++i) spdlog::warn("message {}", i);
  (void)read();
  spdlog::default_logger()->flush();
  EXPECT_THAT(read(), HasSubstr("messages were dropped: standard error was full\n"));
}

TEST_F(LogTest, LeavesTheSharedDescriptorBlocking) {
  spdlog::warn("message");
  EXPECT_EQ(::fcntl(pipe_.write.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(Log, AFullDiskLosesMessagesAndNoMore) {
  const auto before = spdlog::default_logger();
  const Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  set_up_log(full.get());
  for (int i = 0; i < 3; ++i) spdlog::warn("message");
  spdlog::default_logger()->flush();
  spdlog::set_default_logger(before);
}

}  // namespace
}  // namespace wick
