#include "cli/attach.h"

#include <gmock/gmock.h>

#include <thread>

#include "base/unix_socket.h"
#include "console/open.h"
#include "tests/console/fakes.h"

namespace wick::cli {
namespace {

using console::bytes;
using console::make_pipe;
using console::Pair;
using console::receive;
using console::send;
using console::TestTerminal;
using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

// A machine's socket, and an attach to it on a separate thread.
class AttachTest : public console::ConsoleTest {
 protected:
  AttachTest() {
    port_ = *console::open_unix(*loop_, path("serial"), "");
    port_->connect(guest_);
    CaptureStderr();
  }
  ~AttachTest() override {
    if (attached_.joinable()) attached_.join();
    (void)GetCapturedStderr();
  }

  void start(int in, int out) {
    attached_ = std::jthread([this, in, out] {
      status_ = attach(path("serial"), in, out);
      done_ = true;
    });
  }

  // Waits for attach to return; gives its exit status.
  int status() {
    EXPECT_TRUE(run_until([&] { return done_.load(); }));
    attached_.join();
    EXPECT_TRUE(status_) << status_.error().message();
    return status_.value_or(-1);
  }

  std::string said() {
    const std::string text = GetCapturedStderr();
    CaptureStderr();
    return text;
  }

  console::FakeGuest guest_;
  std::unique_ptr<console::Port> port_;
  std::jthread attached_;
  std::atomic<bool> done_ = false;
  Result<int> status_ = -1;
};

TEST_F(AttachTest, JoinsATerminalUntilTheEscapeKey) {
  const TestTerminal terminal;
  port_->write(bytes("login: "));
  start(terminal.tty.get(), terminal.tty.get());
  EXPECT_TRUE(delivers(terminal.user, "login: "));
  EXPECT_TRUE(terminal.is_raw());
  send(terminal.user, "root\r\x03");
  EXPECT_TRUE(run_until([&] { return guest_.taken == "root\r\x03"; }));
  send(terminal.user,
       "last\x1d"
       "not sent");
  EXPECT_EQ(status(), 0);
  EXPECT_TRUE(run_until([&] { return !port_->attached(); }));
  EXPECT_EQ(guest_.taken, "root\r\x03last");
  EXPECT_FALSE(terminal.is_raw());
  EXPECT_EQ(said(), "wick: detached from " + path("serial") + "; the machine keeps running\n");
}

TEST_F(AttachTest, SaysThatTheMachineIsGone) {
  const TestTerminal terminal;
  start(terminal.tty.get(), terminal.tty.get());
  EXPECT_TRUE(run_until([&] { return port_->attached(); }));
  port_->write(bytes("reboot: Power down\r\n"));
  port_->flush();
  port_.reset();
  EXPECT_EQ(status(), 0);
  std::string screen;
  receive(terminal.user, screen);
  EXPECT_EQ(screen, "reboot: Power down\r\n");
  EXPECT_FALSE(terminal.is_raw());
  EXPECT_THAT(said(), HasSubstr("the machine closed the connection"));
}

TEST_F(AttachTest, AScriptHearsTheAnswerToItsLastLine) {
  Pair in = make_pipe();
  const Pair out = make_pipe();
  send(in.write, "uname\n\x1d");
  in.write.close();
  start(in.read.get(), out.write.get());
  EXPECT_TRUE(run_until([&] { return guest_.taken == "uname\n\x1d"; }));
  port_->write(bytes("Linux\r\n"));
  EXPECT_TRUE(delivers(out.read, "Linux\r\n"));
  EXPECT_EQ(status(), 0);
  EXPECT_THAT(said(), HasSubstr("detached"));
}

TEST_F(AttachTest, ASpectatorStaysAsLongAsTheMachine) {
  const Fd in(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Pair out = make_pipe();
  start(in.get(), out.write.get());
  port_->write(bytes("one"));
  EXPECT_TRUE(delivers(out.read, "one"));
  EXPECT_TRUE(port_->attached());
  port_.reset();
  EXPECT_EQ(status(), 0);
  EXPECT_THAT(said(), HasSubstr("the machine closed the connection"));
}

TEST_F(AttachTest, ALargeInputArrivesWhole) {
  Pair in = make_pipe();
  const Pair out = make_pipe();
  guest_.room = 0;
  start(in.read.get(), out.write.get());
  std::string text;
  while (text.size() < 1'000'000) text += std::to_string(text.size()) + "\n";
  std::jthread script([&] {
    send(in.write, text);
    in.write.close();
  });
  EXPECT_TRUE(run_until([&] {
    if (guest_.room == 0) {
      guest_.room = 5000;
      port_->input_wanted();
    }
    return guest_.taken.size() == text.size();
  }));
  EXPECT_EQ(guest_.taken, text);
  port_.reset();
  EXPECT_EQ(status(), 0);
}

TEST_F(AttachTest, ShowsWhyItIsRefused) {
  const Fd first = *connect_unix(path("serial"));
  EXPECT_TRUE(run_until([&] { return port_->attached(); }));
  const Fd in(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Pair out = make_pipe();
  start(in.get(), out.write.get());
  EXPECT_EQ(status(), 1);
  std::string shown;
  receive(out.read, shown);
  EXPECT_THAT(shown, HasSubstr("is attached to unix:" + path("serial")));
  EXPECT_THAT(said(), HasSubstr("another client is attached"));
}

TEST_F(AttachTest, FailsWhereNoMachineIs) {
  const auto status = attach(path("missing"));
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message(), HasSubstr("is the machine running"));
}

TEST_F(AttachTest, FailsWhenItsOutputIsClosed) {
  Pair in = make_pipe();
  Pair out = make_pipe();
  out.read.close();
  start(in.read.get(), out.write.get());
  port_->write(bytes("hello"));
  EXPECT_TRUE(run_until([&] { return done_.load(); }));
  ASSERT_FALSE(status_);
  EXPECT_THAT(status_.error().message(), HasSubstr("standard output: cannot write: Broken pipe"));
}

}  // namespace
}  // namespace wick::cli
