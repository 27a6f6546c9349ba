#include <gmock/gmock.h>

#include "console/open.h"
#include "tests/console/fakes.h"

namespace wick::console {
namespace {

class PtyTest : public ConsoleTest {
 protected:
  PtyTest() { port_->connect(guest_); }

  Fd open_client() const {
    return Fd(::open(port_->name().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  }

  FakeGuest guest_;
  const std::unique_ptr<Port> port_ = *open_pty(*loop_, "");
};

TEST_F(PtyTest, NamesATerminalThatAnyoneCanOpen) {
  EXPECT_THAT(port_->name(), ::testing::StartsWith("/dev/pts/"));
  const Fd client = open_client();
  ASSERT_TRUE(client.valid());
  EXPECT_EQ(::isatty(client.get()), 1);
}

TEST_F(PtyTest, CarriesBytesUnchangedBothWays) {
  const Fd client = open_client();
  port_->write(bytes("a\nb\r\n"));
  EXPECT_TRUE(delivers(client, "a\nb\r\n"));
  send(client, "x\r\n\x03\x1d");
  EXPECT_TRUE(run_until([&] { return guest_.taken == "x\r\n\x03\x1d"; }));
}

TEST_F(PtyTest, PlaysWhatWasWrittenWhileNobodyWasThere) {
  port_->write(bytes("login: "));
  run_for_a_while();
  Fd client = open_client();
  EXPECT_TRUE(delivers(client, "login: "));
  client.close();
  EXPECT_TRUE(run_until([&] { return !port_->attached(); }));
  port_->write(bytes("meanwhile"));
  run_for_a_while();
  client = open_client();
  EXPECT_TRUE(delivers(client, "meanwhile"));
}

TEST_F(PtyTest, TakesWhatAClientSaidBeforeItLeft) {
  Fd client = open_client();
  send(client, "poweroff\r");
  client.close();
  EXPECT_TRUE(run_until([&] { return guest_.taken == "poweroff\r"; }));
  EXPECT_TRUE(run_until([&] { return !port_->attached(); }));
}

TEST_F(PtyTest, AClientThatStoppedReadingMayLeave) {
  Fd client = open_client();
  EXPECT_TRUE(run_until([&] { return port_->attached(); }));
  port_->write(bytes(std::string(Transcript::kKeptBytes, 'x')));
  run_for_a_while();
  client.close();
  EXPECT_TRUE(run_until([&] { return !port_->attached(); }));
  port_->write(bytes("the end"));
  client = open_client();
  std::string got;
  EXPECT_TRUE(run_until([&] { return receive(client, got) && got.ends_with("the end"); }));
}

}  // namespace
}  // namespace wick::console
