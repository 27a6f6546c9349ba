#include "console/terminal.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <csignal>
#include <cstdlib>

#include "tests/console/fakes.h"

namespace wick::console {
namespace {

// Runs a process that makes `terminal` raw and then calls `end`; returns its wait status.
int status_after(const TestTerminal& terminal, const std::function<void()>& end) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{};
    (void)::setrlimit(RLIMIT_CORE, &no_core);
    for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT})
      (void)std::signal(fault, SIG_DFL);  // removes a sanitizer's handler
    (void)::setsid();
    (void)::ioctl(terminal.tty.get(), TIOCSCTTY, 0);
    const auto raw = RawTerminal::enter(terminal.tty.get());
    if (!raw || !terminal.is_raw()) ::_exit(99);
    end();
    ::_exit(98);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

class RawTerminalSignalTest : public ::testing::TestWithParam<int> {};

TEST_P(RawTerminalSignalTest, RestoresTheTerminalAndDiesAsUsual) {
  const TestTerminal terminal;
  const int status = status_after(terminal, [] { (void)::raise(GetParam()); });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), GetParam());
  EXPECT_FALSE(terminal.is_raw());
}

INSTANTIATE_TEST_SUITE_P(Signals, RawTerminalSignalTest,
                         ::testing::Values(SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTERM,
                                           SIGINT, SIGHUP, SIGQUIT));

TEST(RawTerminal, IsRestoredAfterARealFault) {
  const TestTerminal terminal;
  const int status = status_after(terminal, [] {
    void* const page = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *static_cast<volatile int*>(page) = 1;
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSEGV);
  EXPECT_FALSE(terminal.is_raw());
}

TEST(RawTerminal, IsRestoredAtExit) {
  const TestTerminal terminal;
  const int status = status_after(terminal, [] { std::exit(7); });
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_FALSE(terminal.is_raw());
}

TEST(RawTerminal, IsRawAgainAfterTheShellHadIt) {
  const TestTerminal terminal;
  const termios cooked = terminal.modes();
  const int status = status_after(terminal, [&] {
    (void)::tcsetattr(terminal.tty.get(), TCSANOW, &cooked);
    (void)::raise(SIGCONT);
    ::_exit(terminal.is_raw() ? 0 : 1);
  });
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(RawTerminal, LeavesSignalsAloneThatSomeoneHandles) {
  const TestTerminal terminal;
  const auto handler = [](int) {};
  (void)std::signal(SIGUSR1, handler);
  (void)std::signal(SIGHUP, SIG_IGN);
  {
    const auto raw = RawTerminal::enter(terminal.tty.get());
    ASSERT_TRUE(raw);
    (void)::raise(SIGUSR1);
    (void)::raise(SIGHUP);
    EXPECT_TRUE(terminal.is_raw());
  }
  EXPECT_FALSE(terminal.is_raw());
  EXPECT_EQ(std::signal(SIGUSR1, SIG_DFL), static_cast<void (*)(int)>(handler));
  EXPECT_EQ(std::signal(SIGHUP, SIG_DFL), SIG_IGN);
  EXPECT_EQ(std::signal(SIGTERM, SIG_DFL), SIG_DFL);
}

TEST(RawTerminal, CanBeEnteredAgain) {
  const TestTerminal terminal;
  for (int i = 0; i < 2; ++i) {
    const auto raw = RawTerminal::enter(terminal.tty.get());
    ASSERT_TRUE(raw);
    EXPECT_TRUE(terminal.is_raw());
    EXPECT_FALSE(RawTerminal::enter(terminal.tty.get()));
  }
  EXPECT_FALSE(terminal.is_raw());
}

TEST(RawTerminal, RefusesWhatIsNoTerminal) {
  const Pair pipe = make_pipe();
  EXPECT_FALSE(RawTerminal::enter(pipe.read.get()));
  const TestTerminal terminal;
  EXPECT_TRUE(RawTerminal::enter(terminal.tty.get()));
}

}  // namespace
}  // namespace wick::console
