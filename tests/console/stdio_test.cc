#include <gmock/gmock.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include <csignal>

#include "console/open.h"
#include "tests/console/fakes.h"

namespace wick::console {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string numbered_lines(size_t size) {
  std::string text;
  for (int i = 0; text.size() < size; ++i) text += fmt::format("line {}\r\n", i);
  text.resize(size);
  return text;
}

class StdioTest : public ConsoleTest {
 protected:
  std::unique_ptr<Port> open(int in, int out, TerminalKeys keys = {}) {
    auto port = open_stdio(*loop_, std::move(keys), "", in, out);
    EXPECT_TRUE(port) << port.error().message();
    (*port)->connect(guest_);
    return std::move(*port);
  }

  FakeGuest guest_;
};

// --- input that is not a terminal ---------------------------------------------

TEST_F(StdioTest, PassesAPipeOnAsItIs) {
  const Pair in = make_pipe();
  const auto port = open(in.read.get(), -1);
  send(in.write,
       "root\n\x1d"
       "q\x03");
  EXPECT_TRUE(run_until([&] {
    return guest_.taken ==
           "root\n\x1d"
           "q\x03";
  }));
}

TEST_F(StdioTest, TheEndOfInputIsNotTheEndOfOutput) {
  Pair in = make_pipe();
  const Pair out = make_pipe();
  const auto port = open(in.read.get(), out.write.get());
  send(in.write, "last");
  in.write.close();
  EXPECT_TRUE(run_until([&] { return guest_.taken == "last"; }));
  run_for_a_while();
  port->write(bytes("still here"));
  EXPECT_TRUE(delivers(out.read, "still here"));
}

TEST_F(StdioTest, ReadsAFileAsFastAsTheGuestDoes) {
  const std::string text = numbered_lines(100'000);
  std::ofstream(path("in")) << text;
  const Fd in(::open(path("in").c_str(), O_RDONLY | O_CLOEXEC));
  guest_.room = 0;
  const auto port = open(in.get(), -1);
  run_for_a_while();
  // The port has not read the whole file: the next command may want to read the rest.
  EXPECT_LT(::lseek(in.get(), 0, SEEK_CUR), 50'000);
  EXPECT_TRUE(run_until([&] {
    if (guest_.room == 0) {
      guest_.room = 700;
      port->input_wanted();
    }
    return guest_.taken.size() == text.size();
  }));
  EXPECT_EQ(guest_.taken, text);
}

TEST_F(StdioTest, LosesNoInputThatTheGuestHasNoRoomFor) {
  const std::string text = numbered_lines(60'000);
  Pair in = make_pipe();
  guest_.room = 0;
  const auto port = open(in.read.get(), -1);
  send(in.write, text);
  in.write.close();  // the hang-up must not cause a busy loop either
  run_for_a_while();
  EXPECT_TRUE(run_until([&] {
    if (guest_.room == 0) {
      guest_.room = 160;
      port->input_wanted();
    }
    return guest_.taken.size() == text.size();
  }));
  EXPECT_EQ(guest_.taken, text);
}

TEST_F(StdioTest, DoesWithoutInput) {
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  for (const int in : {null.get(), -1}) {
    const Pair out = make_pipe();
    const auto port = open(in, out.write.get());
    port->write(bytes("login: "));
    EXPECT_TRUE(delivers(out.read, "login: "));
  }
}

// --- output -----------------------------------------------------------------

TEST_F(StdioTest, DoesWithoutOutput) {
  const auto port = open(-1, -1);
  port->write(bytes("login: "));
  port->flush();
  EXPECT_EQ(port->transcript().end(), 7u);
}

TEST_F(StdioTest, LeavesTheSharedDescriptorsBlocking) {
  const Pair in = make_pipe();
  const Pair out = make_pipe();
  const auto port = open(in.read.get(), out.write.get());
  EXPECT_EQ(::fcntl(in.read.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(::fcntl(out.write.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(StdioTest, AppendsToAFileWhereTheShellIs) {
  Fd out(::open(path("out").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  send(out, "before ");
  {
    const auto port = open(-1, out.get());
    port->write(bytes("wick"));
    port->flush();
  }
  send(out, " after");
  EXPECT_EQ(content("out"), "before wick after");
}

TEST_F(StdioTest, AFullPipeDelaysOutputAndLosesNone) {
  const Pair out = make_pipe();
  ASSERT_GT(::fcntl(out.write.get(), F_SETPIPE_SZ, 4096), 0);
  const auto port = open(-1, out.write.get());
  const std::string text = numbered_lines(60'000);
  port->write(bytes(text));
  run_for_a_while();
  EXPECT_TRUE(delivers(out.read, text));
}

TEST_F(StdioTest, AReaderThatStoppedLosesTheOldestOutput) {
  const Pair out = make_pipe();
  ASSERT_GT(::fcntl(out.write.get(), F_SETPIPE_SZ, 4096), 0);
  const auto port = open(-1, out.write.get());
  const std::string text = numbered_lines(1'000'000);
  for (size_t at = 0; at < text.size(); at += 10'000) {
    port->write(bytes(std::string_view(text).substr(at, 10'000)));  // must not block
    if (at == 0) run_for_a_while();
  }
  std::string got;
  EXPECT_TRUE(run_until([&] {
    receive(out.read, got);
    return got.ends_with(text.substr(text.size() - 20));
  }));
  EXPECT_EQ(got.substr(0, 4096), text.substr(0, 4096));
  EXPECT_THAT(got, EndsWith(text.substr(text.size() - Transcript::kKeptBytes)));
  EXPECT_LE(got.size(), 4096 + Transcript::kKeptBytes);
}

TEST_F(StdioTest, AReaderThatLeavesEndsTheOutputOnly) {
  const Pair in = make_pipe();
  Pair out = make_pipe();
  const auto port = open(in.read.get(), out.write.get());
  out.read.close();
  port->write(bytes("nobody hears this"));
  run_for_a_while();
  port->write(bytes("nor this"));
  send(in.write, "x");
  EXPECT_TRUE(run_until([&] { return guest_.taken == "x"; }));
  port->flush();
}

TEST_F(StdioTest, FlushGivesUpOnAReaderThatStopped) {
  const Pair out = make_pipe();
  const auto port = open(-1, out.write.get());
  const std::string text = numbered_lines(65'536);
  port->write(bytes(text));
  port->write(bytes(text));
  port->flush();
  port->write(bytes(text));
  port->flush();
}

TEST_F(StdioTest, WorksOverASocket) {
  const Pair ends = make_socket_pair(SOCK_STREAM);
  const auto port = open(ends.write.get(), ends.write.get());
  EXPECT_EQ(::fcntl(ends.write.get(), F_GETFL) & O_NONBLOCK, 0);
  port->write(bytes("login: "));
  EXPECT_TRUE(delivers(ends.read, "login: "));
  send(ends.read, "root\r");
  EXPECT_TRUE(run_until([&] { return guest_.taken == "root\r"; }));
}

// --- a terminal ---------------------------------------------------------------

TEST_F(StdioTest, ATerminalIsRawAsLongAsThePortLives) {
  const TestTerminal terminal;
  const termios before = terminal.modes();
  ASSERT_FALSE(terminal.is_raw());
  {
    const auto port = open(terminal.tty.get(), terminal.tty.get());
    EXPECT_TRUE(terminal.is_raw());
  }
  const termios after = terminal.modes();
  EXPECT_EQ(after.c_lflag, before.c_lflag);
  EXPECT_EQ(after.c_iflag, before.c_iflag);
  EXPECT_EQ(after.c_oflag, before.c_oflag);
}

TEST_F(StdioTest, ATerminalTakesOnePortOnly) {
  const TestTerminal terminal;
  const auto port = open(terminal.tty.get(), terminal.tty.get());
  const auto second = open_stdio(*loop_, {}, "", terminal.tty.get(), terminal.tty.get());
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), HasSubstr("another serial port"));
  EXPECT_TRUE(terminal.is_raw());
}

TEST_F(StdioTest, ATerminalsKeysGoToTheGuestOrToTheEscapes) {
  const TestTerminal terminal;
  std::string pressed;
  const auto port =
      open(terminal.tty.get(), terminal.tty.get(),
           {.quit = [&] { pressed += "quit "; }, .power_button = [&] { pressed += "power "; }});
  send(terminal.user,
       "\x03\x1a\r\x1d\x1d\x1d"
       "bh\x1dp\x1dq");
  EXPECT_TRUE(run_until([&] { return pressed == "power quit "; }));
  EXPECT_EQ(guest_.taken, "\x03\x1a\r\x1d<BREAK>h");
}

TEST_F(StdioTest, EscapesAreHeardWhileTheGuestTakesNothing) {
  const TestTerminal terminal;
  bool quit = false;
  guest_.room = 0;
  const auto port = open(terminal.tty.get(), terminal.tty.get(),
                         {.quit = [&] { quit = true; }, .power_button = {}});
  send(terminal.user, std::string(2000, 'x'));
  run_for_a_while();
  send(terminal.user, "\x1dq");
  EXPECT_TRUE(run_until([&] { return quit; }));
}

TEST_F(StdioTest, ATerminalShowsTheGuestsBytesUnchanged) {
  const TestTerminal terminal;
  const auto port = open(terminal.tty.get(), terminal.tty.get());
  port->write(bytes("a\nb\r\n"));
  EXPECT_TRUE(delivers(terminal.user, "a\nb\r\n"));
}

TEST_F(StdioTest, TheHelpIsForTheTerminalAndNotForTheOutput) {
  const TestTerminal terminal;
  const Pair out = make_pipe();
  const auto port = open(terminal.tty.get(), out.write.get());
  send(terminal.user, "\x1d?");
  std::string screen;
  EXPECT_TRUE(run_until([&] {
    receive(terminal.user, screen);
    return screen.ends_with("send a Ctrl-]\r\n");
  }));
  EXPECT_EQ(port->transcript().end(), 0u);
}

TEST_F(StdioTest, TheGuestHearsOfATerminalsSize) {
  const TestTerminal terminal;
  const auto resize = [&](uint16_t columns, uint16_t rows) {
    const winsize size{.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ASSERT_EQ(::ioctl(terminal.user.get(), TIOCSWINSZ, &size), 0);
  };
  resize(100, 30);
  const auto port = open(terminal.tty.get(), -1);
  EXPECT_EQ(guest_.terminal, (Size{100, 30}));
  resize(132, 43);
  // The kernel sends SIGWINCH to the terminal's foreground process group, not to this test.
  ASSERT_EQ(::kill(::getpid(), SIGWINCH), 0);
  EXPECT_TRUE(run_until([&] { return guest_.terminal == Size{132, 43}; }));
}

// Tests under a shell with job control, which starts a process with a stdio port and
// moves it between foreground and background.
class StdioJobTest : public StdioTest {
 protected:
  enum class Start { kForeground, kBackground };

  // Starts a new session on `terminal_`: a shell and, in another process group, a
  // process with a stdio port, which writes the input that it gets to taken_.
  void start(Start how) {
    shell_ = ::fork();
    if (shell_ != 0) return;
    (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)::setsid();
    (void)::ioctl(terminal_.tty.get(), TIOCSCTTY, 0);
    (void)std::signal(SIGTTOU, SIG_IGN);
    job_ = ::fork();
    if (job_ == 0) job(how);
    (void)::setpgid(job_, job_);
    run_commands();
  }
  ~StdioJobTest() override {
    (void)::kill(shell_, SIGKILL);
    (void)::waitpid(shell_, nullptr, 0);
  }

  // Sends the shell a command and returns its answer: "fg" moves the job to the
  // foreground without a signal, as bash does with a running job; "cont" continues the
  // job where it is; "take" gives the terminal to the shell; "state" reports whether
  // the job is stopped.
  std::string shell(const std::string& order) {
    send(orders_.write, order + "\n");
    std::string answer;
    EXPECT_TRUE(
        run_until([&] { return !receive(answers_.read, answer) || answer.ends_with('\n'); }));
    return answer;
  }

  bool takes(const std::string& typed) {
    send(terminal_.user, typed);
    return run_until([&] {
      receive(taken_.read, got_);
      return got_.ends_with(typed);
    });
  }

  const TestTerminal terminal_;
  const Pair orders_ = make_pipe();
  const Pair answers_ = make_pipe();
  const Pair taken_ = make_pipe();
  std::string got_;

 private:
  [[noreturn]] void job(Start how) {
    // Otherwise this process and the shell would keep the output pipe of a test that
    // died open.
    (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)::setpgid(0, 0);
    if (how == Start::kForeground) (void)::tcsetpgrp(terminal_.tty.get(), ::getpid());
    // A shell resets these too: the tests' parent may have set them to be ignored.
    for (const int signal : {SIGTTOU, SIGTTIN, SIGTSTP, SIGHUP}) (void)std::signal(signal, SIG_DFL);
    // A loop made before fork(2) would share its epoll instance with the test, which
    // would get this process's events.
    (void)loop_.release();
    loop_ = *EventLoop::create();
    const auto port = open(terminal_.tty.get(), terminal_.tty.get());
    send(answers_.write, "job\n");
    size_t told = 0;
    EventLoop::Timer tick;
    tick = *loop_->timer([&] {
      if (guest_.taken.size() > told) send(taken_.write, guest_.taken.substr(told));
      told = guest_.taken.size();
      tick.arm(std::chrono::milliseconds(1));
    });
    tick.arm(std::chrono::milliseconds(1));
    loop_->run();
    ::_exit(0);
  }

  [[noreturn]] void run_commands() {
    bool stopped = false;
    std::string order;
    for (char c = 0; ::read(orders_.read.get(), &c, 1) == 1;) {
      if (c != '\n') {
        order += c;
        continue;
      }
      int status = 0;
      const bool wait_for_stop = order == "wait for stop";
      while (::waitpid(job_, &status, WUNTRACED | WCONTINUED | (wait_for_stop ? 0 : WNOHANG)) > 0) {
        stopped = WIFSTOPPED(status);
        if (wait_for_stop || WIFEXITED(status) || WIFSIGNALED(status)) break;
      }
      if (order == "fg") (void)::tcsetpgrp(terminal_.tty.get(), job_);
      if (order == "take") (void)::tcsetpgrp(terminal_.tty.get(), ::getpid());
      if (order == "cont") (void)::kill(job_, SIGCONT);
      if (order == "stop") (void)::kill(job_, SIGSTOP);
      send(answers_.write, stopped ? "stopped\n" : "runs\n");
      order.clear();
    }
    (void)::kill(job_, SIGKILL);
    ::_exit(0);
  }

  pid_t shell_ = -1;
  pid_t job_ = -1;
};

TEST_F(StdioJobTest, InTheBackgroundTheTerminalIsTheShells) {
  start(Start::kBackground);
  std::string said;
  EXPECT_TRUE(run_until([&] { return receive(answers_.read, said), said == "job\n"; }));
  EXPECT_FALSE(terminal_.is_raw());
  // The port does not take the shell's input, and trying to read it stops no process.
  send(terminal_.user, "for the shell\n");
  run_for_a_while();
  EXPECT_EQ(shell("state"), "runs\n");
  EXPECT_FALSE(terminal_.is_raw());
  std::array<char, 64> line{};
  EXPECT_EQ(::read(terminal_.tty.get(), line.data(), line.size()), 14);

  EXPECT_EQ(shell("fg"), "runs\n");
  EXPECT_TRUE(run_until([&] { return terminal_.is_raw(); }));
  EXPECT_TRUE(takes("root\r\x03"));
  EXPECT_EQ(got_, "root\r\x03");
}

TEST_F(StdioJobTest, TheEscapeKeyForItSuspends) {
  start(Start::kForeground);
  EXPECT_TRUE(run_until([&] { return terminal_.is_raw(); }));
  EXPECT_TRUE(takes("one"));
  send(terminal_.user, "\x1dz");
  std::string said;
  EXPECT_TRUE(run_until([&] { return receive(answers_.read, said), said == "job\n"; }));
  EXPECT_EQ(shell("wait for stop"), "stopped\n");
  EXPECT_FALSE(terminal_.is_raw());
  // bg
  (void)shell("take");
  (void)shell("cont");
  run_for_a_while();
  EXPECT_EQ(shell("state"), "runs\n");
  EXPECT_FALSE(terminal_.is_raw());
  // fg
  (void)shell("fg");
  EXPECT_TRUE(run_until([&] { return terminal_.is_raw(); }));
  EXPECT_TRUE(takes("two"));
}

TEST_F(StdioJobTest, StoppedByAnotherProcessItIsRawAgainWhenContinued) {
  start(Start::kForeground);
  EXPECT_TRUE(run_until([&] { return terminal_.is_raw(); }));
  (void)shell("stop");
  (void)shell("take");
  termios modes = terminal_.modes();
  modes.c_lflag |= ICANON | ECHO | ISIG;
  modes.c_oflag |= OPOST;
  ASSERT_EQ(::tcsetattr(terminal_.tty.get(), TCSANOW, &modes), 0);  // as the shell does
  (void)shell("fg");
  (void)shell("cont");
  EXPECT_TRUE(run_until([&] { return terminal_.is_raw(); }));
  EXPECT_TRUE(takes("again"));
}

TEST_F(StdioTest, ATerminalThatGoesAwayIsNoBusyLoop) {
  TestTerminal terminal;
  const auto port = open(terminal.tty.get(), terminal.tty.get());
  terminal.user.close();
  run_for_a_while();
  port->write(bytes("nobody hears this"));
  run_for_a_while();
  EXPECT_FALSE(port->attached());
}

}  // namespace
}  // namespace wick::console
