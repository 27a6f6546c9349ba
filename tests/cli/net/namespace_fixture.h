// Test fixture: wick net as root, in a network namespace of its own for each test.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/fd.h"
#include "base/process.h"
#include "cli/options.h"
#include "hostnet/executor.h"
#include "hostnet/host_view.h"
#include "tests/fakes/files.h"

namespace wick::cli {

using fakes::read_file;
using hostnet::net_down;
using hostnet::net_up;
using hostnet::NetCommand;
using hostnet::NetDown;
using hostnet::NetUp;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

constexpr uid_t kNobody = 65534;

class NetNamespace : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to make network namespaces";
    for (const char* program : {"ip", "nft", "dnsmasq", "busybox"})
      if (!find_program(program)) GTEST_SKIP() << "needs " << program;
    net_ = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    mounts_ = Fd(::open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC));
    folder_ = Fd(::open(".", O_RDONLY | O_CLOEXEC | O_DIRECTORY));
    // Both namespaces or none.
    if (::unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
      GTEST_SKIP() << "this host permits no new network namespace: " << std::strerror(errno);
    entered_ = true;
    // A private /run, for the state files and those of `ip netns`.
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
        ::mount("run", "/run", "tmpfs", 0, "mode=755") < 0)
      GTEST_SKIP() << "this host permits no mounts: " << std::strerror(errno);
    old_logger_ = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "wick", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)));
    // A second name for nft, for tests that hide the first.
    ASSERT_EQ(shell("ip link set lo up && cp \"$(command -v nft)\" /run/nft"), "");
    before_ = snapshot();
  }

  void TearDown() override {
    if (old_logger_) spdlog::set_default_logger(old_logger_);
    spdlog::set_level(spdlog::level::info);
    if (!entered_) return;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/run/wick/net", error))
      if (const pid_t pid = hostnet::find_dnsmasq(entry.path().filename()); pid != 0)
        ::kill(pid, SIGKILL);
    ::setns(net_.get(), CLONE_NEWNET);
    ::setns(mounts_.get(), CLONE_NEWNS);
    ASSERT_EQ(::fchdir(folder_.get()), 0);
  }

  // The output of a command with its stderr, and its exit status if that is not 0.
  static std::string shell(const std::string& command) {
    const Arguments arguments = {"sh", "-c", "exec 2>&1; " + command};
    const auto outcome = run_process(arguments);
    if (!outcome) return outcome.error().message();
    return outcome->output +
           (outcome->status == 0 ? "" : fmt::format("(exit status {})", outcome->status));
  }
  static std::string in(const std::string& name, const std::string& command) {
    return shell("ip netns exec " + name + " " + command);
  }

  // The state of the host that must be the same afterwards.
  static std::string snapshot() {
    return shell("ip -j link; ip -j addr; ip -j route show table all; nft list ruleset") +
           read_file(hostnet::kForwardingPath);
  }
  void expect_no_trace(const std::string& when) const {
    EXPECT_EQ(snapshot(), before_) << when;
    EXPECT_EQ(shell("ls /run/wick/net"), "") << when;
  }

  static std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

  struct Outcome {
    int status = -1;
    std::string text;  // the output or the error
  };
  static Outcome wick(Arguments arguments) {
    arguments.insert(arguments.begin(), "net");
    const auto command = parse_command(arguments, [](const std::string&) { return nullptr; });
    if (!command) return {2, command.error().error.message()};
    testing::internal::CaptureStdout();
    const auto status =
        std::visit([](const auto& what) { return execute(what); }, std::get<NetCommand>(*command));
    const std::string out = testing::internal::GetCapturedStdout();
    return status ? Outcome{*status, out} : Outcome{1, status.error().message()};
  }
  static void expect_ok(const Arguments& arguments) {
    const Outcome outcome = wick(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.text;
  }
  static Json status() { return Json::parse(wick({"status", "--output", "json"}).text); }
  std::string log() const { return log_.str(); }

  // A namespace with a cable to the bridge.
  static void add_guest(const std::string& name, const std::string& bridge = "wick0") {
    ASSERT_EQ(shell(fmt::format("ip netns add {0} && ip link add v-{0} type veth peer name eth0 "
                                "netns {0} && ip link set v-{0} master {1} up && "
                                "ip -n {0} link set eth0 up && ip -n {0} link set lo up",
                                name, bridge)),
              "");
  }
  // A host outside with the address NETWORK.2; the tested host is NETWORK.1 there. Its IPv6
  // addresses do not change during a test.
  static void add_outside(const std::string& name, const std::string& interface,
                          const std::string& network) {
    ASSERT_EQ(
        shell(fmt::format("ip netns add {0} && ip link add {1} type veth peer name eth0 netns {0} "
                          "&& ip link set {1} addrgenmode none && ip addr add {2}.1/24 dev {1} && "
                          "ip link set {1} up && ip -n {0} addr add {2}.2/24 dev eth0 && "
                          "ip -n {0} link set eth0 up",
                          name, interface, network)),
        "");
  }
  static void add_world() { add_outside("world", "up0", "192.0.2"); }
  // A host behind another interface, 198.51.100.2, whose default route is the tested host.
  static void add_lan() {
    add_outside("lan", "up1", "198.51.100");
    ASSERT_EQ(shell("ip -n lan route add default via 198.51.100.1; "
                    "ip -n world route add 198.51.100.0/24 via 192.0.2.1"),
              "");
  }
  static bool reaches(const std::string& from, const std::string& address) {
    return in(from, "busybox ping -c 1 -W 1 " + address).find(" 0% packet loss") !=
           std::string::npos;
  }
  // Counts packets that arrive in a namespace ("": this one) and match; see count().
  static std::string prefix(const std::string& name) {
    return name.empty() ? "" : "ip netns exec " + name + " ";
  }
  static void start_count(const std::string& name, const std::string& match) {
    ASSERT_EQ(
        shell(fmt::format("{0}/run/nft 'add table inet counted; add chain inet counted c {{ type "
                          "filter hook input priority 300; }}; add rule inet counted c {1} "
                          "counter'",
                          prefix(name), match)),
        "");
  }
  static std::string count(const std::string& name) {
    return shell(prefix(name) + "/run/nft list table inet counted | grep -o 'packets [0-9]*'; " +
                 prefix(name) + "/run/nft delete table inet counted");
  }
  // Runs the guest's DHCP client; returns the guest's address.
  static std::string boot(const std::string& name) {
    std::ofstream script("/run/udhcpc.sh");
    script << "#!/bin/sh\n[ $1 = bound ] || exit 0\nip addr replace $ip/$mask dev $interface\n"
              "[ -z \"$router\" ] || ip route replace default via $router\n"
              "echo $ip >/run/address-$hostname\necho $dns $domain >/run/options-$hostname\n";
    script.close();
    ::chmod("/run/udhcpc.sh", 0755);
    const std::string said =
        in(name, fmt::format("env hostname={0} busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 "
                             "-x hostname:{0} -s /run/udhcpc.sh",
                             name));
    std::string address = read_file("/run/address-" + name);
    if (address.ends_with('\n')) address.pop_back();
    EXPECT_NE(address, "") << said;
    return address;
  }
  // alpha, a guest of wick0, and a guest of `other`, a later network, do not reach each other.
  static void expect_networks_apart() {
    add_guest("stranger", "other");
    const std::string stranger = boot("stranger");
    const std::string alpha = read_file("/run/address-alpha");
    EXPECT_THAT(in("stranger", "busybox ping -c 1 -W 1 " + alpha), HasSubstr("100% packet loss"));
    EXPECT_THAT(in("alpha", "busybox ping -c 1 -W 1 " + stranger), HasSubstr("100% packet loss"));
    remove_guest("stranger");
  }
  static void expect_no_spoofing();
  static void remove_guest(const std::string& name) {
    EXPECT_EQ(shell(fmt::format("ip link del v-{0}; ip netns del {0}", name)), "");
  }

  std::string before_;

 private:
  Fd net_;
  Fd mounts_;
  Fd folder_;
  bool entered_ = false;
  std::shared_ptr<spdlog::logger> old_logger_;
  std::ostringstream log_;
};

// Hides a program for the rest of the test.
inline bool hide(const std::string& program) {
  const auto path = find_program(program);
  return path && ::mount("/dev/null", path->c_str(), nullptr, MS_BIND, nullptr) == 0 &&
         !find_program(program);
}

// An executor that ends the process, or fails, at the n-th action.
class Saboteur : public hostnet::Executor {
 public:
  enum class Way { kDieBefore, kDieAfter, kFail };

  Saboteur(Way way, int at) : way_(way), at_(at) {}

  Result<void> execute(const hostnet::Action& action) override {
    const bool now = count_++ == at_;
    if (now && way_ == Way::kDieBefore) ::_exit(9);
    if (now && way_ == Way::kFail) return fail("sabotage");
    auto performed = hostnet::Executor::execute(action);
    if (now && way_ == Way::kDieAfter) ::_exit(9);
    return performed;
  }

 private:
  const Way way_;
  const int at_;
  int count_ = 0;
};

// Returns the exit status; 9 means that the saboteur ended the process.
template <typename F>
int status_of_child(F function) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
    ::_exit(function());
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

inline NetUp up_with_taps() {
  NetUp up;
  up.user = "nobody";
  up.taps = 2;
  return up;
}

// Tries each way at each action, until a run completes.
template <typename F>
void at_every_action(F run) {
  for (const auto way : {Saboteur::Way::kDieBefore, Saboteur::Way::kDieAfter}) {
    int at = 0;
    while (run(way, at) == 9) ++at;
    EXPECT_GT(at, 5);
  }
}

// Packets from guests with foreign addresses neither leave the host nor reach it.
inline void NetNamespace::expect_no_spoofing() {
  add_guest("spoofer");
  boot("spoofer");
  // Replies would have a route, to the true owner of the address.
  EXPECT_EQ(shell("ip -n spoofer addr add 203.0.113.7/32 dev eth0; "
                  "ip -n spoofer addr add 2001:db8:5::7/64 dev eth0 nodad; "
                  "ip -n spoofer -6 route replace default via fe80::1 dev eth0; "
                  "ip addr add fe80::1/64 dev wick0 nodad; "
                  "ip addr add 2001:db8:7::1/64 dev up0 nodad; "
                  "ip addr add fe80::2/64 dev up0 nodad; "  // for neighbour discovery
                  "ip -n world addr add 2001:db8:7::2/64 dev eth0 nodad; "
                  "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"),
            "");
  const auto arrives = [](const std::string& at, const std::string& source,
                          const std::string& destination, const std::string& match) {
    start_count(at, match);
    in("spoofer", fmt::format("busybox ping -c 1 -W 1 -I {} {}", source, destination));
    return count(at) != "packets 0\n";
  };
  EXPECT_FALSE(arrives("world", "203.0.113.7", "192.0.2.2", "ip saddr 203.0.113.7"));
  EXPECT_FALSE(arrives("", "203.0.113.7", "10.87.0.1", "ip saddr 203.0.113.7"));
  EXPECT_FALSE(arrives("", "203.0.113.7", "192.0.2.1", "ip saddr 203.0.113.7"));
  EXPECT_FALSE(arrives("world", "2001:db8:5::7", "2001:db8:7::2",
                       "ip6 saddr 2001:db8:5::7 icmpv6 type "
                       "echo-request"));
  EXPECT_FALSE(arrives("", "2001:db8:5::7", "2001:db8:7::1",
                       "ip6 saddr 2001:db8:5::7 icmpv6 type echo-request"));
  // The same packets with the guest's own addresses arrive.
  const std::string own = read_file("/run/address-spoofer");
  EXPECT_TRUE(arrives("", own.substr(0, own.size() - 1), "10.87.0.1", "ip saddr 10.87.0.0/24"));
  EXPECT_TRUE(arrives("world", own.substr(0, own.size() - 1), "192.0.2.2", "ip saddr 192.0.2.1"));
  // The first ones may be lost while the guest still takes the neighbour for unreachable.
  EXPECT_THAT(in("spoofer", "busybox ping -6 -c 5 -W 2 fe80::1%eth0"),
              Not(HasSubstr("100% packet loss")));
  // IPv6 from outside does not reach the guests.
  EXPECT_EQ(shell("ip -n world -6 route add 2001:db8:5::/64 via 2001:db8:7::1; "
                  "ip -6 route add 2001:db8:5::/64 dev wick0"),
            "");
  start_count("spoofer", "ip6 saddr 2001:db8:7::2");
  in("world", "busybox ping -6 -c 1 -W 1 2001:db8:5::7");
  EXPECT_EQ(count("spoofer"), "packets 0\n");
  EXPECT_EQ(shell("echo 0 >/proc/sys/net/ipv6/conf/all/forwarding; "
                  "ip addr del 2001:db8:7::1/64 dev up0; ip addr del fe80::2/64 dev up0"),
            "");
  remove_guest("spoofer");
}

}  // namespace wick::cli
