#include "base/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace wick {
namespace {

using testing::HasSubstr;
using Arguments = std::vector<std::string>;

TEST(ShellWords, AreQuotedWhereAShellWouldTakeThemApart) {
  const Arguments words = {"ip", "a b", "", "it's", "$(id)", "a;b", "x=/y", "*"};
  EXPECT_EQ(shell_words(words), R"(ip 'a b' '' 'it'\''s' '$(id)' 'a;b' x=/y '*')");
}

TEST(Process, SaysWhatAProgramSaid) {
  const Arguments cat = {"sh", "-c", "cat; echo no >&2; exit 3"};
  const auto outcome = run_process(cat, "yes\n");
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->status, 3);
  EXPECT_EQ(outcome->output, "yes\n");
  EXPECT_EQ(outcome->errors, "no\n");
}

TEST(Process, OneThatIsNotThereIsAnErrorWithItsPackage) {
  const char* const path = std::getenv("PATH");
  EXPECT_THAT(find_program("wick-no-such-program").error().message(), HasSubstr("not found"));
  EXPECT_TRUE(find_program("sh")->ends_with("/sh"));
  ASSERT_NE(path, nullptr);
}

// wick's main thread blocks the signals that end a run, and the screen ignores SIGPIPE.
TEST(Process, InheritsNoBlockedOrIgnoredSignals) {
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
  const auto handler = std::signal(SIGPIPE, SIG_IGN);
  const Arguments status = {"grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"};
  const auto outcome = run_process(status);
  std::signal(SIGPIPE, handler);
  ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
  ASSERT_TRUE(outcome);
  unsigned long long blocked_there = ~0ull;
  unsigned long long ignored_there = ~0ull;
  ASSERT_EQ(std::sscanf(outcome->output.c_str(), "SigBlk: %llx SigIgn: %llx", &blocked_there,
                        &ignored_there),
            2)
      << outcome->output;
  EXPECT_EQ(blocked_there, 0u);
  EXPECT_EQ(ignored_there & 1ull << (SIGPIPE - 1), 0u);
}

}  // namespace
}  // namespace wick
