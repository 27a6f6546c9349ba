#include "base/unix_socket.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "console/open.h"
#include "tests/console/fakes.h"

namespace wick::console {
namespace {

using ::testing::HasSubstr;

class UnixSocketTest : public ConsoleTest {
 protected:
  std::unique_ptr<Port> open(const std::string& name = "serial") {
    auto port = open_unix(*loop_, path(name), "");
    EXPECT_TRUE(port) << port.error().message();
    (*port)->connect(guest_);
    return std::move(*port);
  }

  Fd connect(const std::string& name = "serial") const {
    auto client = connect_unix(path(name));
    EXPECT_TRUE(client) << client.error().message();
    return std::move(*client);
  }

  std::string error_at(const std::string& name) const {
    const auto port = open_unix(*loop_, path(name), "");
    return port ? "it listens" : port.error().message();
  }

  // Leaves a socket as a process does that dies without cleaning up.
  void leave_stale(const std::string& name) const { EXPECT_TRUE(listen_unix(path(name))); }

  FakeGuest guest_;
};

TEST_F(UnixSocketTest, CarriesBytesUnchangedBothWays) {
  const auto port = open();
  const Fd client = connect();
  port->write(bytes("login: "));
  EXPECT_TRUE(delivers(client, "login: "));
  send(client,
       "root\r\x1d"
       "b\x03");
  EXPECT_TRUE(run_until([&] {
    return guest_.taken ==
           "root\r\x1d"
           "b\x03";
  }));
}

TEST_F(UnixSocketTest, PlaysTheFirstClientWhatItMissed) {
  const auto port = open();
  port->write(bytes("Linux version 6.12\r\n"));
  run_for_a_while();
  const Fd client = connect();
  EXPECT_TRUE(delivers(client, "Linux version 6.12\r\n"));
}

TEST_F(UnixSocketTest, KeepsTheLast64KiBForTheFirstClient) {
  const auto port = open();
  port->write(bytes("too old" + std::string(Transcript::kKeptBytes, 'x')));
  const Fd client = connect();
  EXPECT_TRUE(delivers(client, std::string(Transcript::kKeptBytes, 'x')));
}

TEST_F(UnixSocketTest, PlaysTheNextClientWhatWasWrittenInBetween) {
  const auto port = open();
  Fd client = connect();
  port->write(bytes("first"));
  EXPECT_TRUE(delivers(client, "first"));
  client.close();
  EXPECT_TRUE(run_until([&] { return !port->attached(); }));
  port->write(bytes("between"));
  run_for_a_while();
  client = connect();
  EXPECT_TRUE(delivers(client, "between"));
}

TEST_F(UnixSocketTest, RefusesASecondClientAndSaysWhy) {
  const auto port = open();
  const Fd first = connect();
  EXPECT_TRUE(run_until([&] { return port->attached(); }));
  const Fd second = connect();
  std::string got;
  EXPECT_TRUE(run_until([&] { return !receive(second, got); }));
  EXPECT_EQ(got, fmt::format("wick: refused: process {} is attached to unix:{}\r\n", ::getpid(),
                             path("serial")));
  port->write(bytes("for the first"));
  EXPECT_TRUE(delivers(first, "for the first"));
}

TEST_F(UnixSocketTest, LetsAClientInAsSoonAsTheOtherLeft) {
  const auto port = open();
  // The loop gets the events of all departures and arrivals in one round.
  for (int i = 0; i < 20; ++i) {
    Fd client = connect();
    EXPECT_TRUE(run_until([&] { return port->attached(); }));
    send(client, "x");
    client.close();
    client = connect();
    send(client, "y");
    port->write(bytes("hello"));
    EXPECT_TRUE(delivers(client, "hello"));
    client.close();
    EXPECT_TRUE(run_until([&] { return !port->attached(); }));
  }
  EXPECT_EQ(guest_.taken.size(), 40u);
}

TEST_F(UnixSocketTest, AClientThatStoppedReadingLosesTheOldestOutput) {
  const auto port = open();
  const Fd client = connect();
  EXPECT_TRUE(run_until([&] { return port->attached(); }));
  const std::string block(10'000, 'x');
  for (int i = 0; i < 100; ++i) {
    port->write(bytes(block));  // must not block
    run_until([] { return true; });
  }
  port->write(bytes("the end"));
  std::string got;
  EXPECT_TRUE(run_until([&] { return receive(client, got) && got.ends_with("the end"); }));
  EXPECT_LT(got.size(), 1'000'000u);
  EXPECT_GE(got.size(), Transcript::kKeptBytes);
}

TEST_F(UnixSocketTest, AClientThatOnlyListensHearsOn) {
  const auto port = open();
  const Fd client = connect();
  send(client, "reboot\r");
  ASSERT_EQ(::shutdown(client.get(), SHUT_WR), 0);
  EXPECT_TRUE(run_until([&] { return guest_.taken == "reboot\r"; }));
  run_for_a_while();
  port->write(bytes("The system is going down"));
  EXPECT_TRUE(delivers(client, "The system is going down"));
}

TEST_F(UnixSocketTest, LosesNoInputThatTheGuestHasNoRoomFor) {
  guest_.room = 0;
  const auto port = open();
  Fd client = connect();
  const std::string text(50'000, 'x');
  send(client, text);
  run_for_a_while();
  client.close();
  EXPECT_TRUE(run_until([&] { return !port->attached(); }));
  EXPECT_TRUE(run_until([&] {
    if (guest_.room == 0) {
      guest_.room = 1000;
      port->input_wanted();
    }
    return guest_.taken.size() == text.size();
  }));
}

TEST_F(UnixSocketTest, InputWaitsForTheGuest) {
  const auto port = open_unix(*loop_, path("serial"), "");
  ASSERT_TRUE(port);
  const Fd client = connect();
  send(client, "early");
  run_for_a_while();
  (*port)->connect(guest_);
  EXPECT_TRUE(run_until([&] { return guest_.taken == "early"; }));
}

// --- the path -----------------------------------------------------------------

TEST_F(UnixSocketTest, IsItsOwnersAloneAndGoneAtTheEnd) {
  {
    const auto port = open();
    struct stat status {};
    ASSERT_EQ(::stat(path("serial").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode, static_cast<mode_t>(S_IFSOCK | 0600));
  }
  EXPECT_FALSE(std::filesystem::exists(path("serial")));
}

TEST_F(UnixSocketTest, ReplacesAStaleSocket) {
  leave_stale("serial");
  ASSERT_TRUE(std::filesystem::exists(path("serial")));
  const auto port = open();
  port->write(bytes("hello"));
  EXPECT_TRUE(delivers(connect(), "hello"));
}

TEST_F(UnixSocketTest, LeavesALiveSocketAloneAndItsOutputToItsClients) {
  const auto port = open();
  port->write(bytes("for a client"));
  EXPECT_THAT(error_at("serial"), HasSubstr("serial: another process is using this socket"));
  run_for_a_while();
  EXPECT_FALSE(port->attached());
  EXPECT_TRUE(delivers(connect(), "for a client"));
}

TEST_F(UnixSocketTest, LeavesAFileAlone) {
  std::ofstream(path("disk.img")) << "precious";
  EXPECT_THAT(error_at("disk.img"), HasSubstr("the file exists and is not a socket; remove it"));
  std::filesystem::create_symlink(path("disk.img"), path("link"));
  EXPECT_THAT(error_at("link"), HasSubstr("not a socket"));
  EXPECT_THAT(error_at("."), HasSubstr("not a socket"));
  EXPECT_EQ(content("disk.img"), "precious");
}

TEST_F(UnixSocketTest, DoesNotRemoveASuccessor) {
  auto port = open();
  std::filesystem::remove(path("serial"));
  const auto successor = open();
  port.reset();
  EXPECT_TRUE(std::filesystem::exists(path("serial")));
}

TEST_F(UnixSocketTest, SaysWhatIsWrongWithAPath) {
  EXPECT_THAT(error_at(std::string(200, 'x')), HasSubstr("the path of a socket has at most 107"));
  EXPECT_THAT(error_at("missing/serial"),
              HasSubstr("No such file or directory; check the directory"));
  EXPECT_THAT(open_unix(*loop_, "", "").error().message(), HasSubstr("path is empty"));
}

TEST_F(UnixSocketTest, SaysWhyOneCannotConnect) {
  EXPECT_THAT(connect_unix(path("serial")).error().message(), HasSubstr("is the machine running"));
  leave_stale("serial");
  EXPECT_THAT(connect_unix(path("serial")).error().message(), HasSubstr("no machine listens"));
  std::ofstream(path("file")) << "text";
  EXPECT_THAT(connect_unix(path("file")).error().message(), HasSubstr("the file is not a socket"));
}

}  // namespace
}  // namespace wick::console
