// wick started by shells and other programs on a real terminal. The tests use `wick attach`,
// which uses the terminal as a run does and needs no KVM.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>

#include "console/open.h"
#include "tests/console/fakes.h"

namespace wick::cli {
namespace {

using console::receive;
using console::send;
using ::testing::HasSubstr;

// The parameter is the shell. $wick is the program, $socket a machine's console.
class JobControl : public console::ConsoleTest, public ::testing::WithParamInterface<const char*> {
 protected:
  JobControl() {
    port_ = *console::open_unix(*loop_, path("serial"), "");
    port_->connect(guest_);
    int user = -1;
    shell_ = ::forkpty(&user, nullptr, nullptr, nullptr);
    if (shell_ == 0) {
      ::setenv("PS1", "$ ", 1);
      ::setenv("TERM", "dumb", 1);
      ::setenv("wick", WICK_BINARY, 1);
      ::setenv("socket", path("serial").c_str(), 1);
      ::setenv("folder", folder_.path().c_str(), 1);
      ::unsetenv("ENV");
      for (int signal = 1; signal < SIGRTMIN; ++signal) (void)std::signal(signal, SIG_DFL);
      if (std::string(GetParam()) == "bash")
        ::execlp("bash", "bash", "--norc", "--noprofile", "-i", nullptr);
      ::execlp(GetParam(), GetParam(), "-i", nullptr);
      ::_exit(127);
    }
    user_ = Fd(user);
    EXPECT_TRUE(shows("$ "));
  }
  ~JobControl() override {
    (void)::kill(shell_, SIGKILL);
    user_.close();  // sends SIGHUP to the processes that are left
    (void)::waitpid(shell_, nullptr, 0);
  }

  void type(const std::string& text) const { send(user_, text); }

  // True if the screen shows `text` after the last input.
  ::testing::AssertionResult shows(const std::string& text) {
    const bool shown = run_until([&] {
      receive(user_, screen_);
      return screen_.find(text) != std::string::npos;
    });
    const std::string screen = std::exchange(screen_, {});
    if (shown) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << ::testing::PrintToString(screen);
  }
  // True if the shell has the terminal and its output appears.
  ::testing::AssertionResult shell_answers() {
    type("echo a$((40 + 2))b\n");
    return shows("a42b");
  }
  bool joined() {
    return run_until([&] { return port_->attached(); });
  }
  bool raw() const {
    return run_until([&] {
      termios modes{};
      (void)::tcgetattr(user_.get(), &modes);
      return (modes.c_lflag & (ICANON | ECHO | ISIG)) == 0 && (modes.c_oflag & OPOST) == 0;
    });
  }
  bool takes(const std::string& text) {
    type(text);
    return run_until([&] { return guest_.taken.ends_with(text); });
  }

  console::FakeGuest guest_;
  std::unique_ptr<console::Port> port_;
  pid_t shell_ = -1;
  Fd user_;
  std::string screen_;
};

TEST_P(JobControl, AForegroundJobHasTheTerminalAndGivesItBack) {
  type("$wick attach $socket\n");
  EXPECT_TRUE(joined());
  EXPECT_TRUE(raw());
  EXPECT_TRUE(takes("root\r\x03\x1a"));
  type("\x1d");
  EXPECT_TRUE(shows("the machine keeps running"));
  EXPECT_TRUE(shell_answers());
}

TEST_P(JobControl, ABackgroundJobRunsAndComesToTheForeground) {
  type("$wick attach $socket &\n");
  EXPECT_TRUE(joined());
  EXPECT_TRUE(shell_answers());
  port_->write(console::bytes("guest says hello\r\n"));
  EXPECT_TRUE(shows("guest says hello"));
  type("jobs\n");
  EXPECT_TRUE(shows("Running"));
  EXPECT_EQ(guest_.taken, "");
  type("fg\n");
  EXPECT_TRUE(raw());
  EXPECT_TRUE(takes("root\r"));
  EXPECT_EQ(guest_.taken, "root\r");
  type("\x1d");
  EXPECT_TRUE(shows("the machine keeps running"));
  EXPECT_TRUE(shell_answers());
}

TEST_P(JobControl, AStoppedJobGoesOnInTheBackgroundAndInTheForeground) {
  type("$wick attach $socket; echo it stopped\n");
  EXPECT_TRUE(joined());
  EXPECT_TRUE(raw());
  // Signals the whole job, as another terminal may do.
  ASSERT_EQ(::kill(-::tcgetpgrp(user_.get()), SIGSTOP), 0);
  EXPECT_TRUE(shell_answers());
  type("stty sane; bg\n");  // not all shells restore the modes
  EXPECT_TRUE(shell_answers());
  type("jobs\n");
  EXPECT_TRUE(shows("Running"));
  type("fg\n");
  EXPECT_TRUE(raw());
  EXPECT_TRUE(takes("again\r"));
  ASSERT_EQ(::kill(-::tcgetpgrp(user_.get()), SIGSTOP), 0);
  EXPECT_TRUE(shell_answers());
  type("stty sane\n");
  EXPECT_TRUE(shell_answers());
  type("fg\n");
  EXPECT_TRUE(raw());
  EXPECT_TRUE(takes("and again\r"));
  type("\x1d");
  EXPECT_TRUE(shows("the machine keeps running"));
  EXPECT_TRUE(shell_answers());
}

TEST_P(JobControl, TimeoutEndsIt) {
  type("timeout 1 $wick attach $socket; echo status=$?\n");
  EXPECT_TRUE(joined());
  EXPECT_TRUE(shows("status=124"));
  EXPECT_TRUE(shell_answers());
  type("timeout --foreground 1 $wick attach $socket; echo status=$?\n");
  EXPECT_TRUE(shows("status=124"));
  EXPECT_TRUE(shell_answers());
}

TEST_P(JobControl, SigtermEndsABackgroundJob) {
  type("stty tostop; $wick attach $socket &\n");
  EXPECT_TRUE(joined());
  port_->write(console::bytes("guest says hello\r\n"));
  EXPECT_TRUE(shell_answers());
  type("kill $!; wait $!; echo status=$?\n");
  EXPECT_TRUE(shows("status=143"));
  EXPECT_TRUE(run_until([&] { return !port_->attached(); }));
  EXPECT_TRUE(shell_answers());
}

TEST_P(JobControl, NohupTakesTheTerminalAway) {
  type("cd $folder; nohup $wick attach $socket &\n");
  EXPECT_TRUE(joined());
  EXPECT_TRUE(shell_answers());
  port_->write(console::bytes("guest says hello\r\n"));
  EXPECT_TRUE(run_until([&] { return content("nohup.out").find("hello") != std::string::npos; }));
}

TEST_P(JobControl, AfterSetsidTheTerminalIsStillTheShells) {
  type("setsid $wick attach $socket\n");
  EXPECT_TRUE(joined());
  EXPECT_TRUE(shell_answers());
  run_for_a_while();
  EXPECT_TRUE(shell_answers());
  EXPECT_EQ(guest_.taken, "");
  port_.reset();  // ends the attach
  EXPECT_TRUE(shows("the machine closed the connection"));
}

TEST_P(JobControl, ScriptIsATerminalInATerminal) {
  type("script -qc \"$wick attach $socket\" $folder/log; echo script=$?\n");
  EXPECT_TRUE(joined());
  EXPECT_TRUE(raw());
  run_for_a_while();
  EXPECT_TRUE(takes("root\r\x03"));
  type("\x1d");
  EXPECT_TRUE(shows("script=0"));
  EXPECT_TRUE(shell_answers());
}

TEST_P(JobControl, TmuxIsATerminalOfItsOwn) {
  type("tmux -S $folder/tmux new-session -d \"$wick attach $socket\"; echo started=$?\n");
  if (!shows("started=0")) GTEST_SKIP() << "there is no tmux";
  EXPECT_TRUE(joined());
  type("tmux -S $folder/tmux send-keys root Enter C-c\n");
  EXPECT_TRUE(run_until([&] { return guest_.taken == "root\r\x03"; }));
  type("tmux -S $folder/tmux send-keys C-]\n");
  EXPECT_TRUE(run_until([&] { return !port_->attached(); }));
}

INSTANTIATE_TEST_SUITE_P(Shells, JobControl, ::testing::Values("bash", "dash"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace wick::cli
