#include "base/async_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

namespace wick {
namespace {

class AsyncSocketTest : public testing::Test {
 protected:
  AsyncSocketTest() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    socket_ = AsyncSocket::create(*loop_, Fd(ends[0])).value();
    peer_ = Fd(ends[1]);
  }
  void round() {
    loop_->post([this] { loop_->post([this] { loop_->stop(); }); });
    loop_->run();
  }
  // Starts a read of as many bytes as `in_` has.
  void read() {
    spawn([](AsyncSocketTest& test) -> Task<void> {
      test.was_read_ = co_await test.socket_->read(std::as_writable_bytes(std::span(test.in_)));
    }(*this));
  }
  void destroy_after_read() {
    spawn([](AsyncSocketTest& test) -> Task<void> {
      (void)co_await test.socket_->read(std::as_writable_bytes(std::span(test.in_)));
      test.socket_.reset();
    }(*this));
  }
  void write(std::string text) {
    out_ = std::move(text);
    spawn([](AsyncSocketTest& test) -> Task<void> {
      const iovec parts[] = {{test.out_.data(), 1}, {test.out_.data() + 1, test.out_.size() - 1}};
      test.was_written_ = co_await test.socket_->write(parts);
    }(*this));
  }
  void peer_sends(std::string_view text) const {
    EXPECT_EQ(::send(peer_.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  std::string peer_takes() const {
    std::string text(1 << 20, '\0');
    const ssize_t got = ::recv(peer_.get(), text.data(), text.size(), 0);
    text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    return text;
  }

  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  std::unique_ptr<AsyncSocket> socket_;
  Fd peer_;
  std::string in_ = std::string(6, '\0');
  std::string out_;
  std::optional<bool> was_read_;
  std::optional<bool> was_written_;
};

TEST_F(AsyncSocketTest, AReadWaitsForAllItsBytes) {
  read();
  peer_sends("abc");
  round();
  EXPECT_FALSE(was_read_);
  peer_sends("defghi");
  round();
  EXPECT_EQ(was_read_, true);
  EXPECT_EQ(in_, "abcdef");
  in_.resize(3);
  was_read_.reset();
  read();
  EXPECT_EQ(was_read_, true) << "the rest is there without an event";
  EXPECT_EQ(in_, "ghi");
}

TEST_F(AsyncSocketTest, AReadFailsIfThePeerLeavesBefore) {
  read();
  peer_sends("abc");
  peer_.close();
  round();
  EXPECT_EQ(was_read_, false);
}

TEST_F(AsyncSocketTest, AWriteGoesOnAsThePeerTakesIt) {
  std::string text(5 << 20, 'x');
  text[0] = 'a';
  text.back() = 'z';
  write(text);
  EXPECT_FALSE(was_written_);
  std::string taken;
  for (int i = 0; i < 10000 && taken.size() < text.size(); ++i) {
    taken += peer_takes();
    round();
  }
  EXPECT_EQ(was_written_, true);
  EXPECT_TRUE(taken == text);
}

TEST_F(AsyncSocketTest, AWriteFailsIfThePeerLeaves) {
  write(std::string(5 << 20, 'x'));
  peer_.close();
  round();
  EXPECT_EQ(was_written_, false);
}

TEST_F(AsyncSocketTest, StopsReadingButWritesOn) {
  read();
  peer_sends("abc");
  socket_->stop_reading();
  round();
  EXPECT_EQ(was_read_, false);
  write("still");
  EXPECT_EQ(was_written_, true);
  EXPECT_EQ(peer_takes(), "still");
}

TEST_F(AsyncSocketTest, ShutDownEndsBoth) {
  read();
  write(std::string(5 << 20, 'x'));
  socket_->shut_down();
  round();
  EXPECT_EQ(was_read_, false);
  EXPECT_EQ(was_written_, false);
}

TEST_F(AsyncSocketTest, MayBeDestroyedByWhatItResumes) {
  destroy_after_read();
  socket_->stop_reading();
  peer_.close();
  round();
  EXPECT_FALSE(socket_);
}

TEST_F(AsyncSocketTest, DoesNotSpinWhileNobodyReads) {
  peer_sends("abc");
  peer_.close();
  round();  // would not return if it had to serve the hang-up
  EXPECT_FALSE(was_read_);
}

}  // namespace
}  // namespace wick
