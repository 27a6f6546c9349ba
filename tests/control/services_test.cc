#include "control/services.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/unix_socket.h"
#include "tests/control/session_fixture.h"
#include "tests/fakes/temp_dir.h"

namespace wick::control {
namespace {

using testing::HasSubstr;
using testing::Not;

class ServicesTest : public ControlTest {
 protected:
  void start(Hooks with = {}) {
    const ServiceConfig configs[] = {
        {ServiceConfig::Kind::kQmp, StreamAddress::parse("unix:" + qmp_path()).value()},
        {ServiceConfig::Kind::kMonitor, StreamAddress::parse("unix:" + monitor_path()).value()}};
    services = Services::start(*loop, machine, configs, std::move(with)).value();
  }
  std::string qmp_path() const { return dir / "qmp"; }
  std::string monitor_path() const { return dir / "monitor"; }

  // Runs the loop until `fd` has something to read, at most ten seconds.
  bool wait_for_input(const Fd& fd) {
    for (int i = 0; i < 1000; ++i) {
      run_loop();
      pollfd event{.fd = fd.get(), .events = POLLIN, .revents = 0};
      if (::poll(&event, 1, 10) > 0) return true;
    }
    return false;
  }
  // All that has come once `text` is in it, or until the end.
  std::string read_until(const Fd& fd, std::string_view text) {
    std::string got;
    std::array<char, 65536> buffer;
    while (got.find(text) == std::string::npos && wait_for_input(fd)) {
      const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
      if (count <= 0) return got + "(end)";
      got.append(buffer.data(), static_cast<size_t>(count));
    }
    return got;
  }
  static void write(const Fd& fd, std::string_view text) {
    EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  Fd connect_qmp(bool negotiate = true) {
    Fd client = connect_unix(qmp_path()).value();
    EXPECT_THAT(read_until(client, "\r\n"), HasSubstr("\"QMP\""));
    if (negotiate) {
      write(client, R"({"execute":"qmp_capabilities"})");
      EXPECT_THAT(read_until(client, "\r\n"), HasSubstr("return"));
    }
    return client;
  }

  fakes::TempDir dir;
  std::unique_ptr<Services> services;
};

TEST_F(ServicesTest, ServesSeveralClientsAndTellsThemOfEvents) {
  start();
  const Fd one = connect_qmp(), two = connect_qmp(), silent = connect_qmp(false);
  write(one, R"({"execute":"stop"})");
  EXPECT_THAT(read_until(one, "return"), HasSubstr("\"STOP\""));
  EXPECT_THAT(read_until(two, "\r\n"), HasSubstr("\"STOP\""));
  write(silent, R"({"execute":"query-status"})");
  const std::string got = read_until(silent, "\r\n");
  EXPECT_THAT(got, HasSubstr("CommandNotFound"));
  EXPECT_THAT(got, Not(HasSubstr("STOP")));
}

TEST_F(ServicesTest, ALookAtTheRegistersIsNoEvent) {
  start();
  const Fd client = connect_qmp();
  write(client, R"({"execute":"human-monitor-command",)"
                R"("arguments":{"command-line":"info registers"}})");
  EXPECT_THAT(read_until(client, "\r\n"), HasSubstr("EFER"));
  write(client, R"({"execute":"query-status"})");
  const std::string got = read_until(client, "\"status\"");
  EXPECT_THAT(got, HasSubstr("running"));
  EXPECT_THAT(got, Not(HasSubstr("event")));
}

TEST_F(ServicesTest, AnswersWhatWasSentBeforeTheClientEnded) {
  start();
  const Fd client = connect_qmp();
  std::string commands;
  for (int i = 0; i < 100; ++i)
    commands += R"({"execute":"query-kvm","id":)" + std::to_string(i) + "}";
  write(client, commands);
  ::shutdown(client.get(), SHUT_WR);
  const std::string got = read_until(client, "(nothing has this)");
  EXPECT_THAT(got, HasSubstr("\"id\":99"));
  EXPECT_TRUE(got.ends_with("(end)"));
}

TEST_F(ServicesTest, DropsAClientThatDoesNotReadAndServesTheOthers) {
  start();
  const Fd deaf = connect_qmp(), other = connect_qmp();
  // Each answer has some tens of KiB, so that the queue overflows; the socket may refuse more.
  std::string commands;
  for (int i = 0; i < 2000; ++i) commands += R"({"execute":"query-qmp-schema"})";
  (void)::send(deaf.get(), commands.data(), commands.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  for (int i = 0; i < 3000; ++i) run_loop();
  write(other, R"({"execute":"query-kvm"})");
  EXPECT_THAT(read_until(other, "\r\n"), HasSubstr("enabled"));
  EXPECT_TRUE(read_until(deaf, "(nothing has this)").ends_with("(end)"));
}

TEST_F(ServicesTest, EndsAClientThatSendsOnlyGarbage) {
  start();
  const Fd client = connect_qmp();
  std::string garbage;
  for (int i = 0; i < 200; ++i) garbage += "?\n";
  write(client, garbage);
  EXPECT_TRUE(read_until(client, "(nothing has this)").ends_with("(end)"));
}

TEST_F(ServicesTest, TurnsAwayTooManyClients) {
  start();
  std::vector<Fd> clients;
  for (size_t i = 0; i < Services::kMaxClients; ++i) clients.push_back(connect_qmp(false));
  const Fd more = connect_unix(qmp_path()).value();
  EXPECT_EQ(read_until(more, "(nothing has this)"), "(end)");
  clients.pop_back();
  for (int i = 0; i < 5; ++i) run_loop();
  connect_qmp();
}

TEST_F(ServicesTest, MonitorAnswersAndQmpIsNotDisturbed) {
  start();
  const Fd user = connect_unix(monitor_path()).value();
  const Fd client = connect_qmp();
  EXPECT_THAT(read_until(user, "(wick) "), HasSubstr("monitor"));
  write(user, "info status\n");
  EXPECT_EQ(read_until(user, "(wick) "), "VM status: running\r\n(wick) ");
  write(user, "stop\ninfo status\n");
  EXPECT_EQ(read_until(user, "paused\r\n(wick) "), "(wick) VM status: paused\r\n(wick) ");
  EXPECT_THAT(read_until(client, "\r\n"), HasSubstr("STOP"));
}

TEST_F(ServicesTest, SaysTheLastWordsAndRemovesItsSockets) {
  start();
  const Fd client = connect_qmp();
  machine.publish({.kind = vmm::MachineEvent::Kind::kShutdown, .reason = "host-qmp-quit"});
  services.reset();
  std::array<char, 4096> buffer;
  const ssize_t count = ::read(client.get(), buffer.data(), buffer.size());
  ASSERT_GT(count, 0);
  EXPECT_THAT(std::string(buffer.data(), static_cast<size_t>(count)), HasSubstr("host-qmp-quit"));
  EXPECT_FALSE(std::filesystem::exists(qmp_path()));
}

TEST_F(ServicesTest, LimitsTheBalloonsEvents) {
  start();
  const Fd client = connect_qmp();
  for (uint64_t i = 1; i <= 100; ++i)
    machine.publish({.kind = vmm::MachineEvent::Kind::kBalloonChange, .value = i});
  write(client, R"({"execute":"query-kvm"})");
  const std::string got = read_until(client, "enabled");
  EXPECT_THAT(got, HasSubstr("\"actual\":1}"));
  EXPECT_THAT(got, Not(HasSubstr("\"actual\":2}")));
  EXPECT_THAT(read_until(client, "\r\n"), HasSubstr("\"actual\":100}")) << "the last one follows";
}

TEST_F(ServicesTest, DumpReportsItsCompletionToAll) {
  Hooks with;
  vmm::RunState during = vmm::RunState::kRunning;
  with.dump = [&](const DumpRequest& request, auto progress, auto done) {
    EXPECT_EQ(request.path, "/core");
    during = machine.state_;
    progress(7, 7);
    done({});
  };
  start(std::move(with));
  const Fd client = connect_qmp();
  write(client, R"({"execute":"dump-guest-memory","arguments":)"
                R"({"paging":false,"protocol":"file:/core","detach":true}})");
  const std::string got = read_until(client, "DUMP_COMPLETED");
  EXPECT_THAT(got, HasSubstr(R"("result":{"completed":7,"status":"completed","total":7})"));
  EXPECT_EQ(during, vmm::RunState::kPaused);
  EXPECT_EQ(machine.state_, vmm::RunState::kRunning);
}

TEST_F(ServicesTest, ExecutesALineForGdb) {
  start();
  std::string answer;
  services->execute("info status", [&](const std::string& text) { answer = text; });
  EXPECT_EQ(answer, "VM status: running\r\n");
}

TEST_F(ServicesTest, OnlyOneServiceTakesStdio) {
  const ServiceConfig configs[] = {{ServiceConfig::Kind::kQmp, std::nullopt},
                                   {ServiceConfig::Kind::kMonitor, std::nullopt}};
  EXPECT_FALSE(Services::start(*loop, machine, configs).has_value());
}

}  // namespace
}  // namespace wick::control
