#include "base/connection.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "base/listener.h"
#include "tests/fakes/temp_dir.h"

namespace wick {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

TEST(StreamAddress, HasTwoForms) {
  const auto unix_path = StreamAddress::parse("unix:a:b/c");
  ASSERT_TRUE(unix_path);
  EXPECT_EQ(unix_path->path, "a:b/c");
  for (const char* text : {"tcp:127.0.0.1:1234", "tcp:[::1]:65535", "tcp:example:0"}) {
    const auto address = StreamAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->text(), text);
  }
  EXPECT_EQ(StreamAddress::parse("tcp::5")->host, "127.0.0.1");
  for (const char* text : {"", "unix:", "tcp:", "tcp:5", "tcp:h:", "tcp:h:65536", "tcp:h:1x",
                           "tcp:h:-1", "udp:h:1", "/path"})
    EXPECT_FALSE(StreamAddress::parse(text)) << text;
}

// The service's side of one client.
class ConnectionTest : public testing::Test {
 protected:
  void connect() {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    client_ = Fd(fds[0]);
    connection_ = Connection::create(*loop_, Stream(Fd(fds[1])), {},
                                     {.received =
                                          [this](std::string_view bytes) {
                                            received_ += bytes;
                                            if (on_received_) on_received_();
                                          },
                                      .closed =
                                          [this] {
                                            ++closed_;
                                            connection_.reset();
                                          }})
                      .value();
  }
  void round() {
    loop_->post([this] { loop_->post([this] { loop_->stop(); }); });
    loop_->run();
  }
  std::string read_all() const {
    std::string all(64 << 20, 0);
    const ssize_t got = ::read(client_.get(), all.data(), all.size());
    all.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return all;
  }

  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  Fd client_;
  std::unique_ptr<Connection> connection_;
  std::string received_;
  std::function<void()> on_received_;
  int closed_ = 0;
};

TEST_F(ConnectionTest, PassesBytesBothWays) {
  connect();
  ASSERT_EQ(::write(client_.get(), "question", 8), 8);
  round();
  EXPECT_EQ(received_, "question");
  connection_->send("answer");
  EXPECT_EQ(read_all(), "answer");
}

TEST_F(ConnectionTest, SendsTheRestWhenTheClientReads) {
  connect();
  const std::string much(3 << 20, 'x');
  connection_->send(much);
  EXPECT_GT(connection_->waiting_bytes(), 0u);
  std::string got;
  for (int i = 0; i < 10'000 && got.size() < much.size(); ++i) {
    got += read_all();
    round();
  }
  EXPECT_EQ(got.size(), much.size());
  EXPECT_EQ(connection_->waiting_bytes(), 0u);
}

TEST_F(ConnectionTest, DisconnectsAClientThatDoesNotRead) {
  connect();
  const std::string part(1 << 20, 'x');
  for (int i = 0; i < 20; ++i) connection_->send(part);
  EXPECT_EQ(closed_, 0) << "never inside send()";
  round();
  EXPECT_EQ(closed_, 1);
}

TEST_F(ConnectionTest, AnswersAClientThatHasFinishedSending) {
  connect();
  on_received_ = [this] { connection_->send("answer"); };
  ASSERT_EQ(::write(client_.get(), "q", 1), 1);
  ::shutdown(client_.get(), SHUT_WR);
  for (int i = 0; i < 4 && closed_ == 0; ++i) round();
  EXPECT_EQ(read_all(), "answer");
  EXPECT_EQ(closed_, 1);
}

TEST_F(ConnectionTest, HeldInputWaits) {
  connect();
  connection_->hold_input(true);
  ASSERT_EQ(::write(client_.get(), "q", 1), 1);
  round();
  EXPECT_EQ(received_, "");
  connection_->hold_input(false);
  round();
  EXPECT_EQ(received_, "q");
}

TEST_F(ConnectionTest, MayBeDestroyedByItsOwnCallback) {
  connect();
  on_received_ = [this] { connection_.reset(); };
  ASSERT_EQ(::write(client_.get(), "q", 1), 1);
  round();
  EXPECT_EQ(connection_, nullptr);
  EXPECT_EQ(read_all(), "");
}

TEST_F(ConnectionTest, ClosesAfterTheLastWords) {
  connect();
  connection_->send("bye");
  connection_->close_after_output();
  connection_->send("too late");
  round();
  EXPECT_EQ(read_all(), "bye");
  EXPECT_EQ(closed_, 1);
}

class ConnectionEnds : public testing::Test {
 protected:
  Connection::Events events() {
    return {.received = [this](std::string_view bytes) { got += bytes; },
            .closed = [this] { closed = true; }};
  }
  // Until the end, at most ten thousand rounds.
  void run_until_closed() {
    for (int i = 0; i < 10'000 && !closed; ++i) run_round();
  }
  void run_round() {
    loop->post([this] { loop->stop(); });
    loop->run();
  }
  std::pair<Fd, Fd> socket_pair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()), 0);
    return {Fd(fds[0]), Fd(fds[1])};
  }

  std::unique_ptr<EventLoop> loop = EventLoop::create().value();
  std::string got;
  bool closed = false;
};

TEST_F(ConnectionEnds, ReadsAFileToItsEndAndWritesOne) {
  const fakes::TempDir dir;
  const std::string in = dir.write("in", std::string(100'000, 'x'));
  const std::string out = dir / "out";
  auto connection = Connection::create(
      *loop, Stream(Fd(::open(in.c_str(), O_RDONLY | O_CLOEXEC))),
      Stream(Fd(::open(out.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600))), events());
  ASSERT_TRUE(connection.has_value());
  (*connection)->send("hello");
  run_until_closed();
  EXPECT_TRUE(closed);
  EXPECT_EQ(got.size(), 100'000u);
  EXPECT_EQ(dir.read("out"), "hello");
}

TEST_F(ConnectionEnds, ReadsWhatCameBeforeAHangUpOnceInputIsNotHeld) {
  auto [ours, theirs] = socket_pair();
  auto connection = Connection::create(*loop, Stream(std::move(ours)), Stream(), events());
  (*connection)->hold_input(true);
  ASSERT_EQ(::write(theirs.get(), "last", 4), 4);
  theirs = Fd();
  for (int i = 0; i < 3; ++i) run_round();
  EXPECT_EQ(got, "");
  EXPECT_FALSE(closed);
  // The hang-up does not wake the loop again and again.
  int rounds = 0;
  const auto count = loop->at_round_end([&] { return ++rounds, false; });
  auto timer = loop->timer([&] { loop->stop(); });
  timer->arm(std::chrono::milliseconds(20));
  loop->run();
  EXPECT_LT(rounds, 5);
  (*connection)->hold_input(false);
  run_until_closed();
  EXPECT_EQ(got, "last");
  EXPECT_TRUE(closed);
}

class ListenerTest : public testing::Test {
 protected:
  std::unique_ptr<Listener> listen(const std::string& address) {
    auto made = Listener::create(*loop_, StreamAddress::parse(address).value(),
                                 [this](Fd client) { clients_.push_back(std::move(client)); });
    EXPECT_TRUE(made) << made.error().message();
    return made ? *std::move(made) : nullptr;
  }
  void round() {
    loop_->post([this] { loop_->post([this] { loop_->stop(); }); });
    loop_->run();
  }
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  const fakes::TempDir folder_;
  std::vector<Fd> clients_;
};

TEST_F(ListenerTest, AcceptsSeveralClientsAtAUnixSocketOfItsOwner) {
  const std::string path = folder_.path() + "/socket";
  auto listener = listen("unix:" + path);
  struct stat file {};
  ASSERT_EQ(::stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0600u);
  const auto first = connect_stream(listener->address());
  const auto second = connect_stream(listener->address());
  ASSERT_TRUE(first && second);
  round();
  EXPECT_EQ(clients_.size(), 2u);
  listener.reset();
  EXPECT_NE(::stat(path.c_str(), &file), 0);
}

TEST_F(ListenerTest, ListensAtAFreePortIfAsked) {
  const auto listener = listen("tcp:127.0.0.1:0");
  ASSERT_NE(listener->address().port, 0);
  ASSERT_TRUE(connect_stream(listener->address()));
  round();
  EXPECT_EQ(clients_.size(), 1u);
  const auto again = Listener::create(*loop_, listener->address(), [](Fd) {});
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message(), HasSubstr("choose another"));
}

}  // namespace
}  // namespace wick
