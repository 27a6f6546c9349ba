#include "control/qmp_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include "tests/fakes/fake_qmp_server.h"
#include "tests/fakes/temp_dir.h"

namespace wick::control {
namespace {

using Json = nlohmann::json;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr milliseconds kLong{20000};
constexpr milliseconds kShort{20};

class QmpClientTest : public ::testing::Test {
 protected:
  const fakes::TempDir folder_{std::filesystem::temp_directory_path()};
  fakes::FakeQmpServer server_{folder_ / "qmp.sock"};
};

TEST_F(QmpClientTest, ExecutesCommandsAndSkipsEvents) {
  server_.answers_["query-status"] = {{"status", "running"}};
  auto client = QmpClient::connect(folder_ / "qmp.sock", kLong);
  ASSERT_TRUE(client) << client.error().message();
  const auto status = client->execute("query-status");
  ASSERT_TRUE(status) << status.error().message();
  EXPECT_EQ((*status)["status"], "running");
  EXPECT_TRUE(client->execute("block_resize", {{"device", "vda"}, {"size", 4096}}));
  EXPECT_THAT(server_.asked(),
              ElementsAre("query-status", R"(block_resize {"device":"vda","size":4096})"));
}

TEST_F(QmpClientTest, ReportsTheServersDescription) {
  server_.refusals_["stop"] = "not now";
  auto client = QmpClient::connect(folder_ / "qmp.sock", kLong);
  ASSERT_TRUE(client);
  EXPECT_EQ(client->execute("stop").error().message(), "not now");
  EXPECT_TRUE(client->execute("cont")) << "the connection can still be used";
}

TEST_F(QmpClientTest, SendsBytesThatAreNotUtf8AsReplacements) {
  auto client = QmpClient::connect(folder_ / "qmp.sock", kLong);
  ASSERT_TRUE(client);
  EXPECT_TRUE(client->execute("x", {{"device", "a\xff"}}));
  EXPECT_THAT(server_.asked(), ElementsAre("x {\"device\":\"a\xef\xbf\xbd\"}"));
}

TEST(QmpClientAlone, SaysThatNobodyListens) {
  const fakes::TempDir folder(std::filesystem::temp_directory_path());
  EXPECT_THAT(QmpClient::connect(folder / "qmp.sock", kLong).error().message(),
              HasSubstr("qmp.sock: cannot connect"));
}

// What a client says to a server that sends `bytes` and then hangs up, or stays.
std::string error_after(const std::string& bytes, bool hang_up, milliseconds timeout) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  Fd server(ends[1]);
  std::jthread sending([&] {
    std::string_view rest = bytes;
    while (!rest.empty()) {
      const ssize_t sent = ::send(server.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      if (sent <= 0) break;
      rest.remove_prefix(static_cast<size_t>(sent));
    }
    if (hang_up) ::shutdown(server.get(), SHUT_WR);
  });
  auto client = QmpClient::start(Fd(ends[0]), "web", timeout);
  if (!client) return client.error().message();
  const auto answer = client->execute("stop");
  return answer ? "no error" : answer.error().message();
}

constexpr const char* kGreeting = "{\"QMP\": {}}\n{\"return\": {}}\n";

TEST(QmpClientAlone, RefusesAServerThatSpeaksSomethingElse) {
  for (const std::string& greeting :
       {std::string("SSH-2.0\n"), std::string("\n"), std::string("[]\n"), std::string("{}\n"),
        std::string("{\"return\": {}}\n"), std::string("{\"QMP\"\n"),
        std::string(1'000'000, '[') + "\n", std::string("\xff\n"), std::string("nul\0l\n", 6)})
    EXPECT_EQ(error_after(greeting, true, kLong), "web: the server does not speak QMP")
        << greeting.substr(0, 20);
}

TEST(QmpClientAlone, RefusesAnswersWithoutAValue) {
  for (const char* const answer : {"{}\n", "{\"error\": 7}\n", "{\"error\": {\"desc\": 7}}\n",
                                   "{\"error\": {}}\n", "{\"error\": []}\n"})
    EXPECT_EQ(error_after(std::string(kGreeting) + answer, true, kLong),
              "web: an answer with neither \"return\" nor \"error\"");
  EXPECT_EQ(error_after(std::string(kGreeting) + "{\"return\": 7}\n", true, kLong), "no error");
}

TEST(QmpClientAlone, EndsWithTheConnection) {
  EXPECT_EQ(error_after("", true, kLong), "web: the machine closed the connection");
  EXPECT_EQ(error_after("{\"QMP\": {}}", true, kLong), "web: the machine closed the connection");
  EXPECT_EQ(error_after(kGreeting, true, kLong), "web: the machine closed the connection");
}

TEST(QmpClientAlone, WaitsNoLongerThanItsTimeout) {
  EXPECT_THAT(error_after("", false, kShort), HasSubstr("web: no answer within 0.02 s"));
  EXPECT_THAT(error_after(kGreeting, false, kShort), HasSubstr("no answer within"));
  // Events alone are no answer.
  std::string events = kGreeting;
  for (int i = 0; i < 1000; ++i) events += "{\"event\": \"RTC_CHANGE\"}\n";
  EXPECT_THAT(error_after(events, false, kShort), HasSubstr("no answer within"));
}

TEST(QmpClientAlone, WaitsNoLongerForAServerThatNeverStopsSending) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const Fd server(ends[1]);
  std::jthread sending([&] {
    std::string text = kGreeting;
    while (::send(server.get(), text.data(), text.size(), MSG_NOSIGNAL) > 0)
      text = "{\"event\": \"RTC_CHANGE\"}\n";
  });
  auto client = *QmpClient::start(Fd(ends[0]), "web", milliseconds(200));
  EXPECT_THAT(client.execute("stop").error().message(), HasSubstr("no answer within"));
  ::shutdown(server.get(), SHUT_RDWR);
}

TEST(QmpClientAlone, TakesABoundedMessage) {
  const std::string endless(QmpClient::kMaxMessageBytes + (1 << 20), 'x');
  EXPECT_EQ(error_after(endless, false, kLong), "web: a message longer than 16777216 bytes");
}

}  // namespace
}  // namespace wick::control
