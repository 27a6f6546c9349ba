// The TAPs of a wick net, and the machines that use them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "hostnet/tap_claim.h"
#include "tests/cli/net/namespace_fixture.h"
#include "tests/fakes/frames.h"

namespace wick::cli {
namespace {

using testing::AllOf;

// Attaches to a TAP as wick run does.
Fd open_tap(const std::string& name) {
  Fd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  ifreq request{};
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE);
  if (!tun.valid() || ::ioctl(tun.get(), TUNSETIFF, &request) < 0) return {};
  return tun;
}

// A /dev/net/tun for everyone, as udev makes it.
bool open_tun_to_everyone() {
  return ::mknod("/run/tun", S_IFCHR | 0600, makedev(10, 200)) == 0 &&
         ::chmod("/run/tun", 0666) == 0 &&
         ::mount("/run/tun", "/dev/net/tun", nullptr, MS_BIND, nullptr) == 0;
}

TEST_F(NetNamespace, AUserUsesItsTapsWithoutPrivilege) {
  if (::access("/dev/net/tun", F_OK) != 0) GTEST_SKIP() << "needs /dev/net/tun";
  ASSERT_TRUE(open_tun_to_everyone());
  expect_ok({"up", "--user", "nobody", "--taps", "2"});
  EXPECT_EQ(log(), "");
  const auto as_nobody = [](auto function) {
    return status_of_child([&] {
      if (::setgid(kNobody) < 0 || ::setuid(kNobody) < 0) return 99;
      return function();
    });
  };
  EXPECT_EQ(as_nobody([] {
              const auto network = hostnet::find_host_network();
              if (!network || !*network) return 1;
              const auto first = hostnet::claim_tap(**network);
              const auto second = hostnet::claim_tap(**network);
              const auto third = hostnet::claim_tap(**network);
              if (!first || !*first || !second || !*second || !third || *third) return 2;
              if (!open_tap((*first)->name).valid() || !open_tap((*second)->name).valid()) return 3;
              return 0;
            }),
            0);
  EXPECT_EQ(as_nobody([] { return wick({"status"}).status; }), 0);
  EXPECT_EQ(as_nobody([] { return wick({"up", "lab", "--dry-run"}).status; }), 0);
  EXPECT_EQ(as_nobody([] { return wick({"down", "--dry-run"}).status; }), 0);
  for (const char* command : {"up", "down"})
    EXPECT_EQ(
        as_nobody([&] {
          const Outcome outcome = wick({command});
          return outcome.status == 1 && outcome.text.find("sudo wick net") != std::string::npos ? 0
                                                                                                : 1;
        }),
        0);
}

TEST_F(NetNamespace, AGuestIsNotARouterToTheHost) {
  if (::access("/dev/net/tun", F_OK) != 0) GTEST_SKIP() << "needs /dev/net/tun";
  const std::string sysctls = "/proc/sys/net/ipv6/conf/wick0/";
  expect_ok({"up", "--user", "nobody", "--taps", "1"});
  if (!fs::exists(sysctls)) GTEST_SKIP() << "needs IPv6";
  const Fd tap = open_tap("wick0-t0");
  const auto advertise = [&] {
    fakes::Bytes packet(10);  // IFF_VNET_HDR
    fakes::append(packet, fakes::router_advertisement());
    EXPECT_EQ(::write(tap.get(), packet.data(), packet.size()),
              static_cast<ssize_t>(packet.size()));
    return shell("ip -6 route show default; ip -6 addr show dev wick0 scope global");
  };
  EXPECT_EQ(advertise(), "");
  // With the sysctls of an older wick the host would accept it.
  EXPECT_EQ(
      shell(fmt::format("for i in {0}accept_*; do echo 1 >$i; done; echo 1 >{0}autoconf", sysctls)),
      "");
  EXPECT_THAT(advertise(), AllOf(HasSubstr("via fe80::bad"), HasSubstr("2001:db8:bad:")));
  expect_ok({"up"});
  for (const char* name : {"accept_ra", "autoconf", "accept_redirects"})
    EXPECT_EQ(read_file(sysctls + name), "0\n") << name;
  expect_ok({"down"});
}

class NetNamespaceMachine : public NetNamespace {
 protected:
  void SetUp() override {
    NetNamespace::SetUp();
    if (::access("/dev/net/tun", F_OK) != 0) GTEST_SKIP() << "needs /dev/net/tun";
  }
  void TearDown() override {
    end();
    NetNamespace::TearDown();
  }

  // Starts the machine on this TAP, which joins the bridge.
  void start(const std::string& interface) {
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    const Fd read_end(ready[0]);
    const Fd write_end(ready[1]);
    machine_ = ::fork();
    if (machine_ == 0) {
      ::prctl(PR_SET_NAME, "wick");
      const Fd tap = open_tap(interface);
      const Fd name = name_.empty() ? Fd() : hostnet::publish_machine_name(name_);
      [[maybe_unused]] const auto put = ::write(write_end.get(), tap.valid() ? "y" : "n", 1);
      ::pause();
      ::_exit(0);
    }
    ASSERT_GT(machine_, 0);
    char answer = 'n';
    ASSERT_EQ(::read(read_end.get(), &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    EXPECT_EQ(shell(fmt::format("ip link set {} master wick0", interface)), "");
  }
  void end() {
    if (machine_ <= 0) return;
    ::kill(machine_, SIGKILL);
    ::waitpid(machine_, nullptr, 0);
    machine_ = 0;
  }
  void expect_named(const std::string& interface) {
    const Json tap = status().at(0).at("taps").back();
    EXPECT_EQ(tap.at("name"), interface);
    EXPECT_EQ(tap.at("pid"), machine_);
    EXPECT_EQ(tap.at("machine"), fmt::format("wick-{}", machine_));
    EXPECT_THAT(wick({"status"}).text,
                HasSubstr(fmt::format("{1:<15}  wick-{0} (process {0})", machine_, interface)));
    expect_ok({"down"});
    EXPECT_THAT(log(), HasSubstr("uses it and loses its network"));
    end();
    expect_no_trace("with a machine on it");
  }

  std::string name_;  // --name
  pid_t machine_ = 0;
};

TEST_F(NetNamespaceMachine, StatusNamesItOnATapOfItsUser) {
  expect_ok({"up", "--user", "nobody", "--taps", "2"});
  start("wick0-t1");
  expect_named("wick0-t1");
}

TEST_F(NetNamespaceMachine, StatusNamesItOnATapOfItsOwn) {
  expect_ok({"up"});
  start("tap7");
  expect_named("tap7");
}

TEST_F(NetNamespaceMachine, StatusTellsItsName) {
  expect_ok({"up"});
  name_ = "web \x1b[2J, \"blue\"";
  start("tap7");
  EXPECT_EQ(status().at(0).at("taps").back().at("machine"), name_);
  EXPECT_THAT(wick({"status"}).text, HasSubstr("  web \\x1b[2J, \"blue\" (process "));
}

// A process can delay reads of its memory (/proc/PID/cmdline and others) without end. Here a
// FIFO without a writer stands for such a process.
void hide_memory(pid_t pid) {
  ASSERT_TRUE(::mkfifo("/run/slow", 0644) == 0 || errno == EEXIST);
  for (const char* file : {"cmdline", "environ", "maps", "smaps", "mem", "auxv"}) {
    const std::string path = fmt::format("/proc/{}/{}", pid, file);
    ASSERT_EQ(::mount("/run/slow", path.c_str(), nullptr, MS_BIND, nullptr), 0) << path;
  }
}

TEST_F(NetNamespaceMachine, NoCommandWaitsForAProcesssMemory) {
  expect_ok({"up"});
  start("tap7");
  hide_memory(machine_);
  // A dnsmasq of another network, and a compromised one of this network.
  EXPECT_EQ(shell("dnsmasq --conf-file= --port=0 --interface=lo --pid-file=/run/other.pid"), "");
  const pid_t other = std::stoi(read_file("/run/other.pid"));
  hide_memory(other);
  const pid_t own = hostnet::find_dnsmasq("wick0");
  ASSERT_NE(own, 0);
  hide_memory(own);
  // In a child process, which can be killed if it blocks.
  for (const char* command : {"status", "up", "down"}) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
      ::_exit(wick({command}).status);
    }
    int status = -1;
    constexpr int kTries = 3000;  // of 10 ms
    for (int i = 0; i < kTries && ::waitpid(pid, &status, WNOHANG) == 0; ++i) ::usleep(10'000);
    if (status == -1) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
    }
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << command;
  }
  EXPECT_EQ(::kill(other, 0), 0) << "down killed another's process";
  ::kill(other, SIGKILL);
  end();
  expect_no_trace("after down");
}

}  // namespace
}  // namespace wick::cli
