// Fakes for the console tests: a guest whose room for input the test sets, a loop that
// runs until a condition is true, and pipes and terminals.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "console/backend.h"
#include "tests/fakes/temp_dir.h"

namespace wick::console {

inline std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

class FakeGuest final : public Guest {
 public:
  size_t input(std::span<const std::byte> bytes) override {
    const size_t size = std::min(bytes.size(), room);
    room -= size;
    taken.append(reinterpret_cast<const char*>(bytes.data()), size);
    return size;
  }
  void send_break() override { taken += "<BREAK>"; }
  void resized(Size size) override { terminal = size; }

  size_t room = SIZE_MAX;
  std::string taken;
  Size terminal;
};

// The two ends of a pipe or of a socket pair.
struct Pair {
  Fd read;  // of a socket pair: the test's end
  Fd write;
};

inline Pair make_pipe() {
  std::array<int, 2> fds{};
  EXPECT_EQ(::pipe2(fds.data(), O_CLOEXEC), 0);
  return {Fd(fds[0]), Fd(fds[1])};
}

inline Pair make_socket_pair(int type) {
  std::array<int, 2> fds{};
  EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds.data()), 0);
  return {Fd(fds[0]), Fd(fds[1])};
}

// A pseudo terminal. The test types on `user` and reads the screen there.
struct TestTerminal {
  Fd user;
  Fd tty;

  TestTerminal() : user(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    EXPECT_EQ(::grantpt(user.get()), 0);
    EXPECT_EQ(::unlockpt(user.get()), 0);
    std::array<char, 64> path{};
    EXPECT_EQ(::ptsname_r(user.get(), path.data(), path.size()), 0);
    tty = Fd(::open(path.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  }
  bool is_raw() const {
    termios modes{};
    EXPECT_EQ(::tcgetattr(tty.get(), &modes), 0);
    return (modes.c_lflag & (ICANON | ECHO | ISIG)) == 0 && (modes.c_oflag & OPOST) == 0;
  }
  termios modes() const {
    termios modes{};
    EXPECT_EQ(::tcgetattr(tty.get(), &modes), 0);
    return modes;
  }
};

inline void send(const Fd& fd, std::string_view text) {
  ASSERT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

// Appends what can be read now to `to`. Returns false at the end of file.
inline bool receive(const Fd& fd, std::string& to) {
  std::array<char, 4096> chunk;
  for (;;) {
    pollfd readable{.fd = fd.get(), .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, 0) <= 0) return true;
    const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
    if (got <= 0) return false;
    to.append(chunk.data(), static_cast<size_t>(got));
  }
}

class ConsoleTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_ / name; }

  std::string content(const std::string& name) const { return folder_.read(name); }

  // Runs the loop until `done` returns true; returns false after 20 seconds.
  bool run_until(const std::function<bool()>& done) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    EventLoop::Timer tick;
    auto check = [&] {
      if (done() || std::chrono::steady_clock::now() > deadline) {
        loop_->stop();
      } else {
        tick.arm(std::chrono::milliseconds(1));
      }
    };
    tick = *loop_->timer(check);
    check();
    loop_->run();
    return done();
  }

  // Runs the loop for several rounds, for tests that expect nothing to happen.
  void run_for_a_while() const {
    int rounds = 0;
    EXPECT_TRUE(run_until([&] { return ++rounds > 20; }));
  }

  // Runs the loop until `fd` has delivered `text` and nothing else.
  ::testing::AssertionResult delivers(const Fd& fd, std::string_view text) const {
    std::string got;
    if (run_until([&] { return !receive(fd, got) || got.size() >= text.size(); }) && got == text)
      return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure()
           << "got " << got.size() << " bytes, ending in: "
           << ::testing::PrintToString(got.substr(got.size() - std::min<size_t>(got.size(), 80)));
  }

  std::unique_ptr<EventLoop> loop_ = *EventLoop::create();
  const fakes::TempDir folder_{testing::TempDir()};  // a short path, for sockets
};

}  // namespace wick::console
