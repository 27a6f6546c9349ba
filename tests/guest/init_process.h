// The init of guests as an ordinary process of the test, with a socket in place of the port, and
// a Session at the other end.
//
// Thread rule: one thread.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "guest/init_image.h"
#include "guest/plan.h"
#include "guest/session.h"

namespace wick::guest {

inline Fd memory_file(std::span<const std::byte> content, const char* name, unsigned flags = 0) {
  Fd fd(::memfd_create(name, flags));
  EXPECT_EQ(::write(fd.get(), content.data(), content.size()),
            static_cast<ssize_t>(content.size()));
  return fd;
}

// The virtio console and its driver: a stream of bytes in both directions.
class Wire final : public console::Guest {
 public:
  Wire(EventLoop& loop, Fd socket) : loop_(loop), socket_(std::move(socket)) {}

  void connect(Session& session) {
    session_ = &session;
    session.connect(*this);
    watch_ =
        loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t events) { serve(events); }).value();
  }
  size_t input(std::span<const std::byte> bytes) override {
    const ssize_t put =
        ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    const size_t taken = put < 0 ? 0 : static_cast<size_t>(put);
    if (taken < bytes.size()) watch_.set_events(EPOLLIN | EPOLLOUT);
    return taken;
  }
  void send_break() override {}

 private:
  void serve(uint32_t events) {
    if ((events & EPOLLOUT) != 0) {
      watch_.set_events(EPOLLIN);
      session_->input_wanted();
    }
    std::array<std::byte, 4096> bytes;
    const ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got > 0) return session_->write(std::span(bytes).first(static_cast<size_t>(got)));
    if (got == 0) watch_.reset();
  }

  EventLoop& loop_;
  const Fd socket_;
  Session* session_ = nullptr;
  EventLoop::Watch watch_;
};

class InitProcess {
 public:
  explicit InitProcess(const Plan& plan) {
    std::array<int, 2> ends;
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    port_ = Fd(ends[0]);
    const Fd other(ends[1]);
    const Fd program = memory_file(init_image(), "init", MFD_CLOEXEC);
    const Fd text = memory_file(as_bytes(plan.text().data(), plan.text().size()), "plan");
    const std::string path = "/proc/self/fd/" + std::to_string(program.get());
    const std::string plan_path = "/proc/self/fd/" + std::to_string(text.get());
    const std::string number = std::to_string(other.get());
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::fcntl(other.get(), F_SETFL, O_NONBLOCK);
    ::fcntl(port_.get(), F_SETFD, FD_CLOEXEC);
    ::execl(path.c_str(), "init", plan_path.c_str(), number.c_str(), nullptr);
    ::_exit(99);
  }
  ~InitProcess() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  Fd take_port() { return std::move(port_); }

 private:
  Fd port_;
  pid_t pid_ = -1;
};

// Runs a command in an init with a session, and collects its output.
class SessionFixture : public testing::Test {
 protected:
  SessionFixture() : loop_(EventLoop::create().value()) {}

  // `in` may be invalid.
  void start(const Plan& plan, Fd in = {}) {
    init_.emplace(plan);
    std::array<int, 2> out, err;
    ASSERT_EQ(::pipe2(out.data(), O_CLOEXEC | O_NONBLOCK), 0);
    ASSERT_EQ(::pipe2(err.data(), O_CLOEXEC | O_NONBLOCK), 0);
    read_ends_ = {Fd(out[0]), Fd(err[0])};
    wire_ = std::make_unique<Wire>(*loop_, init_->take_port());
    session_ =
        Session::create(*loop_,
                        {.in = in.valid() ? Stream(std::move(in)) : Stream(),
                         .out = Stream(given_out_.valid() ? std::move(given_out_) : Fd(out[1])),
                         .err = Stream(Fd(err[1]))},
                        {.started =
                             [this] {
                               if (when_started_) when_started_();
                             },
                         .ended = [this] { loop_->stop(); },
                         .typed = {}})
            .value();
    wire_->connect(*session_);
    for (size_t i = 0; i < read_ends_.size(); ++i)
      if (reads_[i])
        watches_[i] =
            loop_->watch(read_ends_[i].get(), EPOLLIN, [this, i](uint32_t) { collect(i); }).value();
    deadline_ = loop_
                    ->timer([this] {
                      ADD_FAILURE() << "the command did not end";
                      loop_->stop();
                    })
                    .value();
  }
  // Runs until the command has ended.
  const CommandEnd& finish(std::chrono::seconds patience = std::chrono::seconds(60)) {
    deadline_.arm(patience);
    loop_->run();
    for (size_t i = 0; i < read_ends_.size(); ++i) collect(i);
    static const CommandEnd kNone{.kind = CommandEnd::Kind::kFailed, .message = "no end"};
    return session_->end() ? *session_->end() : kNone;
  }
  const CommandEnd& run(const std::vector<std::string>& command, Fd in = {}) {
    start(plan_of(command), std::move(in));
    return finish();
  }
  static Plan plan_of(const std::vector<std::string>& command) {
    Plan plan;
    plan.open_port(WICK_PORT_NAME);
    plan.environment(std::vector<std::string>{"PATH=/usr/bin:/bin", "MARK=x"});
    plan.command(command);
    return plan;
  }

  const std::unique_ptr<EventLoop> loop_;
  std::function<void()> when_started_;
  std::array<bool, 2> reads_ = {true, true};
  Fd given_out_;  // in place of a pipe that the test reads
  std::optional<InitProcess> init_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Wire> wire_;
  std::array<Fd, 2> read_ends_;
  std::string out_, err_;

 private:
  void collect(size_t index) {
    if (!read_ends_[index].valid()) return;
    std::string& to = index == 0 ? out_ : err_;
    std::array<char, 65536> bytes;
    ssize_t got = 0;
    while ((got = ::read(read_ends_[index].get(), bytes.data(), bytes.size())) > 0)
      to.append(bytes.data(), static_cast<size_t>(got));
  }
  std::array<EventLoop::Watch, 2> watches_;
  EventLoop::Timer deadline_;
};

}  // namespace wick::guest
