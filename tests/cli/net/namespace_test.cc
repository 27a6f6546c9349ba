// wick net as root; each test has its own network namespace. Everything that `up` makes works,
// and `down` removes all of it, whatever happened in between.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <array>
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
#include "hostnet/leases.h"
#include "hostnet/tap_claim.h"
#include "tests/fakes/frames.h"

namespace wick::cli {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

constexpr uid_t kNobody = 65534;

std::string file_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

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
           file_text(hostnet::kForwardingPath);
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
    std::string address = file_text("/run/address-" + name);
    if (address.ends_with('\n')) address.pop_back();
    EXPECT_NE(address, "") << said;
    return address;
  }
  // alpha, a guest of wick0, and a guest of `other`, a later network, do not reach each other.
  static void expect_networks_apart() {
    add_guest("stranger", "other");
    const std::string stranger = boot("stranger");
    const std::string alpha = file_text("/run/address-alpha");
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

NetUp up_with_taps() {
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

TEST_F(NetNamespace, UpStatusDownLeaveNoTrace) {
  const Outcome up = wick({"up", "--user", "nobody", "--taps", "2"});
  ASSERT_EQ(up.status, 0) << up.text;
  EXPECT_EQ(up.text,
            "wick0 is up: 10.87.0.1/24, NAT by nftables, DHCP and names in .wick by dnsmasq, 2 "
            "TAPs for nobody\n");
  EXPECT_EQ(file_text(hostnet::kForwardingPath), "1\n");
  const Json network = status().at(0);
  EXPECT_EQ(network.at("name"), "wick0");
  EXPECT_EQ(network.at("bridge"), true);
  EXPECT_EQ(network.at("address"), "10.87.0.1/24");
  EXPECT_TRUE(network.at("dhcp").at("pid").is_number());
  EXPECT_EQ(network.at("taps").size(), 2u);
  EXPECT_EQ(network.at("taps").at(1).at("name"), "wick0-t1");
  const Outcome shown = wick({"status"});
  EXPECT_THAT(shown.text, HasSubstr("wick0: 10.87.0.1/24\n"));
  EXPECT_THAT(shown.text, HasSubstr("    wick0-t1         free\n"));
  expect_ok({"down"});
  expect_no_trace("after down");
  EXPECT_EQ(wick({"status"}).text, "no network is up\n");
  EXPECT_EQ(wick({"status"}).status, 1);
}

TEST_F(NetNamespace, GuestsGetAddressesNamesAndTheOutside) {
  // The outside has no route to the guests, so replies arrive only by NAT.
  add_world();
  before_ = snapshot();
  expect_ok({"up"});
  add_guest("alpha");
  add_guest("beta");
  const std::string alpha = boot("alpha");
  const std::string beta = boot("beta");
  EXPECT_NE(alpha, beta);
  EXPECT_EQ(file_text("/run/options-alpha"), "10.87.0.1 wick\n");

  const auto lookup = [&](const std::string& name) {
    return in("beta", "busybox nslookup " + name + " 10.87.0.1");
  };
  EXPECT_THAT(lookup("alpha.wick"), HasSubstr("Address: " + alpha));
  EXPECT_THAT(lookup("alpha"), HasSubstr("Address: " + alpha));
  EXPECT_THAT(lookup("host.wick"), HasSubstr("Address: 10.87.0.1"));
  EXPECT_THAT(lookup("nobody.wick"), HasSubstr("NXDOMAIN"));
  EXPECT_THAT(shell("busybox nslookup alpha.wick 10.87.0.1"), HasSubstr("Address: " + alpha));

  EXPECT_THAT(in("beta", "busybox ping -c 1 -W 5 " + alpha), HasSubstr(" 0% packet loss"));
  EXPECT_THAT(in("alpha", "busybox ping -c 1 -W 5 10.87.0.1"), HasSubstr(" 0% packet loss"));
  EXPECT_THAT(in("alpha", "busybox ping -c 1 -W 5 192.0.2.2"), HasSubstr(" 0% packet loss"));
  // Packets from outside are dropped, even with a route.
  EXPECT_EQ(shell("ip -n world route add 10.87.0.0/24 via 192.0.2.1"), "");
  EXPECT_THAT(in("world", "busybox ping -c 1 -W 1 " + alpha), HasSubstr("100% packet loss"));

  const Json leases = status().at(0).at("leases");
  ASSERT_EQ(leases.size(), 2u);
  EXPECT_THAT((std::vector<std::string>{leases[0].at("name"), leases[1].at("name")}),
              testing::UnorderedElementsAre("alpha", "beta"));
  EXPECT_THAT(wick({"hosts"}).text, HasSubstr(alpha + " alpha alpha.wick\n"));
  EXPECT_THAT(wick({"status"}).text, HasSubstr("alpha\n"));

  remove_guest("alpha");
  remove_guest("beta");
  EXPECT_EQ(shell("ip -n world route del 10.87.0.0/24"), "");
  expect_ok({"down"});
  expect_no_trace("after guests");
}

TEST_F(NetNamespace, GuestsOfDifferentNetworksDoNotMeet) {
  expect_ok({"up"});
  expect_ok({"up", "other"});
  add_guest("alpha");
  boot("alpha");
  expect_networks_apart();
  remove_guest("alpha");
  expect_ok({"down"});
  expect_ok({"down", "other"});
  expect_no_trace("after two networks");
}

TEST_F(NetNamespace, AGuestCannotTakeTheHostsNameNorTheProxys) {
  expect_ok({"up"});
  for (const char* name : {"host", "wpad", "localhost"}) {
    add_guest(name);
    boot(name);
  }
  const auto lookup = [](const std::string& name) {
    return shell("busybox nslookup " + name + " 10.87.0.1");
  };
  EXPECT_THAT(lookup("host.wick"), HasSubstr("Address: 10.87.0.1\n"));
  EXPECT_THAT(lookup("wpad.wick"), HasSubstr("NXDOMAIN"));
  EXPECT_EQ(wick({"hosts"}).text, "");
}

TEST_F(NetNamespace, WithoutNatThereIsNoWayOut) {
  expect_ok({"up", "--no-nat", "--domain", "lab.test"});
  EXPECT_EQ(file_text(hostnet::kForwardingPath), "0\n");
  add_guest("alpha");
  boot("alpha");
  EXPECT_EQ(file_text("/run/options-alpha"), "10.87.0.1 lab.test\n");
  EXPECT_EQ(in("alpha", "ip route show default"), "");
  remove_guest("alpha");
  expect_ok({"down"});
  expect_no_trace("after --no-nat");
}

TEST_F(NetNamespace, UpTwiceAndDownTwiceAreAsOnce) {
  expect_ok({"up", "--user", "nobody", "--taps", "1"});
  const std::string once = snapshot();
  const Json first = status();
  expect_ok({"up"});
  EXPECT_EQ(snapshot(), once);
  EXPECT_EQ(status(), first);
  // `up` may add TAPs, but change nothing else.
  expect_ok({"up", "--user", "nobody", "--taps", "3"});
  EXPECT_EQ(status().at(0).at("taps").size(), 3u);
  EXPECT_THAT(wick({"up", "--address", "10.99.0.1/24"}).text, HasSubstr("wick net down wick0"));
  EXPECT_THAT(wick({"up", "--no-nat"}).text, HasSubstr("is already up with NAT"));
  EXPECT_THAT(wick({"up", "--user", "root"}).text, HasSubstr("TAPs of nobody"));
  expect_ok({"down"});
  expect_no_trace("after down");
  const Outcome again = wick({"down"});
  EXPECT_EQ(again.status, 0);
  EXPECT_EQ(again.text, "wick0 is not up\n");
  expect_no_trace("after a second down");
}

TEST_F(NetNamespace, UpRepairsWhatIsMissing) {
  expect_ok({"up", "--user", "nobody", "--taps", "2"});
  const pid_t dnsmasq = hostnet::find_dnsmasq("wick0");
  ASSERT_GT(dnsmasq, 0);
  ASSERT_EQ(::kill(dnsmasq, SIGKILL), 0);
  while (hostnet::find_dnsmasq("wick0") != 0) ::usleep(1000);
  EXPECT_EQ(shell("nft delete table ip wick_wick0; ip link del wick0-t0; "
                  "ip link set wick0-t1 nomaster; echo 0 >/proc/sys/net/ipv4/ip_forward"),
            "");
  EXPECT_THAT(wick({"status"}).text, HasSubstr("dnsmasq is gone; wick net up wick0"));
  expect_ok({"up"});
  EXPECT_THAT(shell("nft list ruleset"), HasSubstr("wick_wick0"));
  EXPECT_THAT(shell("bridge link"), HasSubstr("wick0-t0"));
  EXPECT_THAT(shell("bridge link"), HasSubstr("wick0-t1"));
  EXPECT_EQ(file_text(hostnet::kForwardingPath), "1\n");
  EXPECT_TRUE(status().at(0).at("dhcp").at("pid").is_number());
  // A dnsmasq whose bridge is gone must be restarted.
  EXPECT_EQ(shell("ip link del wick0"), "");
  EXPECT_THAT(wick({"status"}).text, HasSubstr("gone; wick net up wick0"));
  expect_ok({"up"});
  add_guest("alpha");
  EXPECT_NE(boot("alpha"), "");
  remove_guest("alpha");
  expect_ok({"down"});
  expect_no_trace("after the repair");
}

// A program with the arguments of wick's dnsmasq, until it is killed.
pid_t start_impostor(const char* program, uid_t uid) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::setresuid(uid, uid, uid) < 0) ::_exit(1);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::execl(program, "dnsmasq", "-c",
            "kill -STOP $$; :", "--pid-file=/run/wick/net/wick0/dnsmasq.pid", nullptr);
    ::_exit(1);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, WUNTRACED), pid);
  EXPECT_TRUE(WIFSTOPPED(status)) << program;
  return pid;
}

TEST_F(NetNamespace, ImpostorsOfItsDnsmasqAreNotKilled) {
  // A copy of the program, and a process like a setuid program (sudo): it runs as root with
  // arguments that the user chooses.
  ASSERT_EQ(shell("mkdir /run/bin && cp /bin/sh /run/bin/dnsmasq"), "");
  const std::array impostors = {start_impostor("/run/bin/dnsmasq", 12345),
                                start_impostor("/bin/sh", 0)};
  EXPECT_EQ(hostnet::find_dnsmasq("wick0"), 0);
  expect_ok({"up"});
  const pid_t dnsmasq = hostnet::find_dnsmasq("wick0");
  EXPECT_NE(dnsmasq, 0);
  EXPECT_THAT(impostors, testing::Each(testing::Ne(dnsmasq)));
  expect_ok({"down"});
  EXPECT_EQ(hostnet::find_dnsmasq("wick0"), 0);
  for (const pid_t pid : impostors) {
    EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), 0) << "down killed another's process";
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

TEST_F(NetNamespace, DownEndsEveryDnsmasqOfTheNetwork) {
  expect_ok({"up"});
  EXPECT_EQ(shell("dnsmasq --conf-file= --port=0 --bind-interfaces --interface=lo "
                  "--pid-file=/run/other.pid --dhcp-range=127.0.0.10,127.0.0.20 "
                  "--dhcp-leasefile=/run/wick/net/wick0/leases"),
            "");
  expect_ok({"down"});
  EXPECT_EQ(hostnet::find_dnsmasq("wick0"), 0);
  expect_no_trace("with two of them");
}

TEST_F(NetNamespace, DownSurvivesThingsThatAreGone) {
  expect_ok({"up", "--user", "nobody", "--taps", "2"});
  const pid_t dnsmasq = hostnet::find_dnsmasq("wick0");
  ASSERT_EQ(::kill(dnsmasq, SIGKILL), 0);
  while (hostnet::find_dnsmasq("wick0") != 0) ::usleep(1000);
  EXPECT_EQ(shell("nft delete table ip wick_wick0; ip link del wick0; ip link del wick0-t1; "
                  "echo 0 >/proc/sys/net/ipv4/ip_forward"),
            "");
  const std::string state = file_text("/run/wick/net/wick0/state.json");
  expect_ok({"down"});
  EXPECT_THAT(log(), Not(HasSubstr("gone")));
  fs::create_directory("/run/wick/net/wick0");
  std::ofstream("/run/wick/net/wick0/state.json") << state;
  expect_ok({"down", "-v"});
  for (const char* what : {"wick0: already gone", "wick_wick0: already gone",
                           "wick0-t1: already gone", "dnsmasq of wick0: already gone"})
    EXPECT_THAT(log(), HasSubstr(what));
  expect_no_trace("after down of nearly nothing");
}

TEST_F(NetNamespace, WhatOthersMadeIsRefusedAndLeftAlone) {
  const std::pair<const char*, const char*> others[] = {
      {"ip link add wick0 type bridge", "ip link del dev wick0"},
      {"ip link add wick0 type veth peer name other", "ip link del dev wick0"},
      {"nft add table ip wick_wick0", "nft delete table ip wick_wick0"},
      {"ip tuntap add dev wick0-t1 mode tap", "ip link del dev wick0-t1"}};
  for (const auto& [make, remove] : others) {
    EXPECT_EQ(shell(make), "");
    const std::string there = snapshot();
    const Outcome up = wick({"up", "--user", "nobody", "--taps", "2"});
    EXPECT_EQ(up.status, 1) << make;
    EXPECT_THAT(up.text, HasSubstr("wick net did not make it")) << make;
    EXPECT_THAT(up.text, HasSubstr(remove));
    EXPECT_EQ(snapshot(), there);
    EXPECT_EQ(shell("ls /run/wick/net"), "");
    const Outcome down = wick({"down"});
    const bool interface = std::string(remove).ends_with("wick0") && remove[0] == 'i';
    EXPECT_EQ(down.status, interface ? 1 : 0) << make;
    if (interface) {
      EXPECT_THAT(down.text, HasSubstr("wick net did not make it"));
    }
    EXPECT_EQ(snapshot(), there);
    EXPECT_EQ(shell(remove), "");
  }
}

TEST_F(NetNamespace, ABridgeThatTookThePlaceOfOursIsLeftAlone) {
  expect_ok({"up", "--user", "nobody", "--taps", "1"});
  EXPECT_EQ(shell("ip link del wick0 && ip link add wick0 type bridge"), "");
  EXPECT_THAT(wick({"up"}).text, HasSubstr("wick net did not make it"));
  expect_ok({"down"});
  EXPECT_THAT(log(), HasSubstr("wick0: not removed"));
  EXPECT_THAT(shell("ip link show wick0"), HasSubstr("wick0"));
  EXPECT_EQ(shell("ip link del wick0"), "");
  expect_no_trace("except the other bridge");
}

TEST_F(NetNamespace, UpThatIsKilledAnywhereIsUndoneByDown) {
  at_every_action([&](Saboteur::Way way, int at) {
    const int status = status_of_child([&] {
      Saboteur saboteur(way, at);
      const auto done = net_up(up_with_taps(), saboteur);
      return done ? *done : 1;
    });
    EXPECT_TRUE(status == 9 || status == 0) << status;
    expect_ok({"down"});
    expect_no_trace(fmt::format("killed at action {}", at));
    return status;
  });
}

TEST_F(NetNamespace, UpThatIsKilledAnywhereIsCompletedByUp) {
  at_every_action([&](Saboteur::Way way, int at) {
    const int status = status_of_child([&] {
      Saboteur saboteur(way, at);
      const auto done = net_up(up_with_taps(), saboteur);
      return done ? *done : 1;
    });
    expect_ok({"up", "--user", "nobody", "--taps", "2"});
    EXPECT_THAT(wick({"status"}).text, Not(HasSubstr("gone"))) << at;
    EXPECT_THAT(shell("nft list ruleset; bridge link"), HasSubstr("wick0-t1")) << at;
    expect_ok({"down"});
    expect_no_trace(fmt::format("killed at action {}, then completed", at));
    return status;
  });
}

TEST_F(NetNamespace, DownThatIsKilledAnywhereIsCompletedByDown) {
  at_every_action([&](Saboteur::Way way, int at) {
    expect_ok({"up", "--user", "nobody", "--taps", "2"});
    const int status = status_of_child([&] {
      Saboteur saboteur(way, at);
      const auto done = net_down(NetDown(), saboteur);
      return done ? *done : 1;
    });
    expect_ok({"down"});
    expect_no_trace(fmt::format("killed at action {}", at));
    return status;
  });
}

TEST_F(NetNamespace, UpThatFailsAnywhereUndoesItself) {
  for (int at = 0;; ++at) {
    Saboteur saboteur(Saboteur::Way::kFail, at);
    testing::internal::CaptureStdout();
    const auto done = net_up(up_with_taps(), saboteur);
    testing::internal::GetCapturedStdout();
    if (done) {
      EXPECT_GT(at, 5);
      break;
    }
    EXPECT_EQ(done.error().message(), "sabotage");
    expect_no_trace(fmt::format("failed at action {}", at));
  }
}

TEST_F(NetNamespace, DownGoesOnWhereSomethingFailsAndKeepsItForAnotherTry) {
  expect_ok({"up", "--user", "nobody", "--taps", "2"});
  Saboteur saboteur(Saboteur::Way::kFail, 5);  // the table of NAT
  const auto done = net_down(NetDown(), saboteur);
  ASSERT_FALSE(done);
  EXPECT_THAT(shell("nft list ruleset"), HasSubstr("wick_wick0"));
  EXPECT_THAT(shell("ip link"), Not(HasSubstr("wick0")));
  expect_ok({"down"});
  expect_no_trace("after the other try");
}

TEST_F(NetNamespace, ForwardingIsGivenBackByTheLastNetwork) {
  expect_ok({"up", "one"});
  expect_ok({"up", "two"});
  EXPECT_EQ(status().at(1).at("address"), "10.87.1.1/24");
  expect_ok({"down", "one"});
  EXPECT_EQ(file_text(hostnet::kForwardingPath), "1\n");
  expect_ok({"down", "two"});
  expect_no_trace("after both");
  // Forwarding that was on before stays on.
  EXPECT_EQ(shell("echo 1 >/proc/sys/net/ipv4/ip_forward"), "");
  before_ = snapshot();
  expect_ok({"up"});
  expect_ok({"down"});
  expect_no_trace("with forwarding on before");
}

TEST_F(NetNamespace, DryRunDoesNothingAndItsLinesDoTheSame) {
  const Outcome lines = wick({"up", "--user", "nobody", "--taps", "1", "--dry-run"});
  ASSERT_EQ(lines.status, 0) << lines.text;
  EXPECT_EQ(snapshot(), before_);
  EXPECT_FALSE(fs::exists("/run/wick"));
  const auto view = [] {
    std::string text = shell("nft list ruleset; ip route; bridge link | sed 's/^[0-9]*//'");
    const auto host = hostnet::look_at_host();
    for (const hostnet::HostLink& link : host->links)
      text += fmt::format("{} {} {} {} {}\n", link.name, link.kind, link.up, link.master,
                          link.addresses.size());
    return text;
  };
  std::ofstream("/run/up.sh") << lines.text;
  EXPECT_EQ(shell("sh -e /run/up.sh"), "");
  const std::string by_hand = view();
  const pid_t dnsmasq = hostnet::find_dnsmasq("wick0");
  EXPECT_GT(dnsmasq, 0);
  ::kill(dnsmasq, SIGKILL);
  EXPECT_EQ(shell("ip link del wick0-t0; ip link del wick0; nft flush ruleset; "
                  "echo 0 >/proc/sys/net/ipv4/ip_forward; rm -r /run/wick"),
            "");
  while (hostnet::find_dnsmasq("wick0") != 0) ::usleep(1000);
  expect_ok({"up", "--user", "nobody", "--taps", "1"});
  EXPECT_EQ(view(), by_hand);

  const Outcome down = wick({"down", "--dry-run"});
  ASSERT_EQ(down.status, 0) << down.text;
  EXPECT_EQ(view(), by_hand);
  std::ofstream("/run/down.sh") << down.text;
  EXPECT_EQ(shell("sh -e /run/down.sh"), "");
  while (hostnet::find_dnsmasq("wick0") != 0) ::usleep(1000);
  expect_no_trace("after the lines of down");
  EXPECT_EQ(wick({"down", "--dry-run"}).text, "");
}

TEST_F(NetNamespace, ItsFolderIsRootsAloneWhateverTheUmask) {
  const auto modes = [] { return shell("cd /run/wick && stat -c '%a %u %n' . net net/.lock"); };
  const mode_t mask = ::umask(0);
  expect_ok({"down"});
  EXPECT_EQ(modes(), "755 0 .\n755 0 net\n600 0 net/.lock\n");
  fs::remove_all("/run/wick");
  expect_ok({"up", "--user", "nobody", "--taps", "1"});
  EXPECT_EQ(modes(), "755 0 .\n755 0 net\n600 0 net/.lock\n");
  EXPECT_EQ(shell("cd /run/wick/net/wick0 && stat -c '%a %U %n' . leases state.json *.lock"),
            "755 root .\n644 root leases\n644 root state.json\n600 nobody wick0-t0.lock\n");
  ::umask(mask);
  // The commands that --dry-run prints have the same effect.
  expect_ok({"down"});
  fs::remove_all("/run/wick");
  EXPECT_EQ(shell("umask 0; " + first_line(wick({"up", "--dry-run"}).text)), "");
  EXPECT_EQ(shell("stat -c '%a %n' /run/wick /run/wick/net /run/wick/net/wick0"),
            "755 /run/wick\n755 /run/wick/net\n755 /run/wick/net/wick0\n");
}

// A user who can write there could make root delete any interface.
TEST_F(NetNamespace, AFolderThatOthersMayWriteToIsRefused) {
  expect_ok({"up"});
  for (const char* object :
       {"/run/wick", "/run/wick/net", "/run/wick/net/wick0", "/run/wick/net/wick0/state.json"}) {
    const std::string mode = shell(fmt::format("stat -c %a {}", object));
    EXPECT_EQ(shell(fmt::format("chmod o+w {}", object)), "");
    for (const char* command : {"up", "down", "status", "hosts"}) {
      const Outcome outcome = wick({command});
      EXPECT_EQ(outcome.status, 1) << object << command;
      EXPECT_THAT(outcome.text, HasSubstr(fmt::format("{}: not trusted: others", object)));
    }
    EXPECT_THAT(shell("ip link show wick0"), HasSubstr("wick0"));
    // As the error advises.
    EXPECT_EQ(shell(fmt::format("chown 0:0 {0} && chmod go-w {0}", object)), "");
    EXPECT_EQ(shell(fmt::format("stat -c %a {}", object)), mode);
  }
  expect_ok({"down"});
  expect_no_trace("after the modes are right again");
}

TEST_F(NetNamespace, TwoAtOnceDoNotInterfere) {
  std::vector<pid_t> children;
  for (const char* name : {"one", "two", "three"}) {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(wick({"up", name}).status);
    children.push_back(pid);
  }
  for (const pid_t pid : children) {
    int status = -1;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  std::vector<std::string> addresses;
  for (const Json& network : status()) addresses.push_back(network.at("address"));
  EXPECT_THAT(addresses,
              testing::UnorderedElementsAre("10.87.0.1/24", "10.87.1.1/24", "10.87.2.1/24"));
  for (const char* name : {"one", "two", "three"}) expect_ok({"down", name});
  expect_no_trace("after three networks");
}

TEST_F(NetNamespace, ForwardingThatItTurnsOnIsForItsGuestsAlone) {
  add_world();
  add_lan();
  before_ = snapshot();
  const std::string forwarding6 = "/proc/sys/net/ipv6/conf/all/forwarding";
  const std::string before6 = file_text(forwarding6);
  EXPECT_FALSE(reaches("lan", "192.0.2.2"));
  expect_ok({"up"});
  EXPECT_FALSE(reaches("lan", "192.0.2.2")) << "the host forwards for strangers";
  EXPECT_FALSE(reaches("world", "198.51.100.2"));
  EXPECT_TRUE(reaches("lan", "198.51.100.1"));
  EXPECT_EQ(file_text(forwarding6), before6);
  add_guest("alpha");
  boot("alpha");
  EXPECT_TRUE(reaches("alpha", "192.0.2.2"));
  EXPECT_TRUE(reaches("alpha", "198.51.100.2"));
  remove_guest("alpha");
  expect_ok({"down"});
  expect_no_trace("after up and down");
  // wick does not change forwarding that an administrator has turned on.
  EXPECT_EQ(shell("echo 1 >/proc/sys/net/ipv4/ip_forward"), "");
  before_ = snapshot();
  EXPECT_TRUE(reaches("lan", "192.0.2.2"));
  expect_ok({"up"});
  EXPECT_TRUE(reaches("lan", "192.0.2.2"));
  EXPECT_TRUE(reaches("world", "198.51.100.2"));
  expect_ok({"down"});
  EXPECT_TRUE(reaches("lan", "192.0.2.2"));
  expect_no_trace("with forwarding on before");
}

// Takes down one or the other network first, and reloads a firewall.
TEST_F(NetNamespace, TheGuardOfForwardingGoesWithTheLastNetwork) {
  add_world();
  add_lan();
  before_ = snapshot();
  for (const bool first_goes_first : {true, false}) {
    expect_ok({"up", "one"});
    expect_ok({"up", "two"});
    add_guest("alpha", "one");
    add_guest("beta", "two");
    boot("alpha");
    boot("beta");
    const auto expect_guarded = [](std::initializer_list<const char*> guests) {
      for (const char* guest : guests) EXPECT_TRUE(reaches(guest, "192.0.2.2")) << guest;
      EXPECT_FALSE(reaches("lan", "192.0.2.2"));
    };
    expect_guarded({"alpha", "beta"});
    EXPECT_EQ(shell("nft flush ruleset"), "");
    expect_ok({"up", "two"});
    expect_guarded({"beta"});
    expect_ok({"up", "one"});
    expect_guarded({"alpha", "beta"});
    expect_ok({"down", first_goes_first ? "one" : "two"});
    expect_guarded({first_goes_first ? "beta" : "alpha"});
    EXPECT_THAT(shell("nft list ruleset"), Not(HasSubstr(first_goes_first ? "one" : "two")));
    expect_ok({"down", first_goes_first ? "two" : "one"});
    remove_guest("alpha");
    remove_guest("beta");
    expect_no_trace("after both");
  }
}

// With br_netfilter the frames of a bridge pass the IP firewall.
TEST_F(NetNamespace, ABridgeOfOthersStaysABridge) {
  EXPECT_EQ(shell("ip link add br0 type bridge && ip link set br0 up"), "");
  for (const char* name : {"one", "two"}) add_guest(name, "br0");
  EXPECT_EQ(shell("ip -n one addr add 172.16.0.1/24 dev eth0; "
                  "ip -n two addr add 172.16.0.2/24 dev eth0"),
            "");
  ASSERT_TRUE(reaches("one", "172.16.0.2"));
  expect_ok({"up"});
  EXPECT_TRUE(reaches("one", "172.16.0.2"));
}

TEST_F(NetNamespace, GuestsAmongThemselvesUseWhateverAddressesTheyLike) {
  expect_ok({"up"});
  for (const char* name : {"one", "two"}) add_guest(name);
  EXPECT_EQ(shell("for i in 1 2; do n=$([ $i = 1 ] && echo one || echo two); "
                  "ip -n $n addr add 172.16.0.$i/24 dev eth0; "
                  "ip -n $n addr add fd00::$i/64 dev eth0 nodad; done"),
            "");
  EXPECT_TRUE(reaches("one", "172.16.0.2"));
  EXPECT_TRUE(reaches("one", "fd00::2"));
}

// Packets from guests with foreign addresses neither leave the host nor reach it.
void NetNamespace::expect_no_spoofing() {
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
  const std::string own = file_text("/run/address-spoofer");
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

TEST_F(NetNamespace, AddressesThatAreNotTheGuestsAreDropped) {
  add_world();
  before_ = snapshot();
  expect_ok({"up"});
  expect_no_spoofing();
  expect_ok({"down"});
  expect_no_trace("after spoofing");
}

TEST_F(NetNamespace, AGuestDoesNotTakeTheHostsPlaceAmongItsNeighbours) {
  expect_ok({"up"});
  add_guest("alpha");
  add_guest("beta");
  const std::string beta = boot("beta");
  EXPECT_EQ(shell("ip -n alpha addr add 10.87.0.1/24 dev eth0"), "");
  const auto host_of_beta = [] { return in("beta", "ip neigh show 10.87.0.1"); };
  // Later than the true reply, which the kernel protects for a second (locktime).
  EXPECT_EQ(in("beta", "sh -c 'echo 0 >/proc/sys/net/ipv4/neigh/eth0/locktime'"), "");
  EXPECT_TRUE(reaches("beta", "10.87.0.1"));
  const std::string bridge = hostnet::look_at_host()->find("wick0")->mac;
  EXPECT_THAT(host_of_beta(), HasSubstr(bridge));
  in("alpha", fmt::format("busybox arping -c 2 -A -I eth0 -s 10.87.0.1 10.87.0.1"));
  EXPECT_THAT(host_of_beta(), HasSubstr(bridge));
  // The host's own MAC address is dropped, too.
  EXPECT_EQ(shell(fmt::format(
                "ip -n alpha addr flush dev eth0; ip -n alpha addr add 10.87.0.9/24 dev eth0; "
                "ip -n alpha link set eth0 address {}; "
                "ip -n alpha neigh replace {} dev eth0 lladdr $(ip -n beta -o link show eth0 | "
                "sed 's/.*ether //; s/ .*//')",
                bridge, beta)),
            "");
  start_count("beta", "ether saddr " + bridge + " ip saddr 10.87.0.9");
  in("alpha", "busybox ping -c 1 -W 1 " + beta);
  EXPECT_EQ(count("beta"), "packets 0\n");
}

TEST_F(NetNamespace, RedirectsThatTheHostDoesNotTakeStayOff) {
  const std::string path = "/proc/sys/net/ipv4/conf/all/accept_redirects";
  for (const char* value : {"0\n", "1\n"}) {
    std::ofstream(path) << value;
    for (const char* name : {"one", "two"}) expect_ok({"up", name});
    for (const char* name : {"one", "two"}) expect_ok({"down", name});
    EXPECT_EQ(file_text(path), value);
    expect_no_trace("after both");
  }
}

// The commands and the state file of `wick net up` of 2026-11-28.
constexpr const char* kFormerUp = R"(mkdir -p /run/wick/net/wick0
ip link add name wick0 address 02:00:00:00:00:01 type bridge forward_delay 0
ip addr replace 10.87.0.1/24 broadcast + dev wick0
ip link set dev wick0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
nft -f - <<'END'
table ip wick_wick0 {
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "wick0" accept
    oifname "wick0" ct state established,related accept
    oifname "wick0" ct status dnat accept
    oifname "wick0" drop
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 10.87.0.0/24 oifname != "wick0" masquerade
  }
}
END
cat >/run/wick/net/wick0/state.json <<END
{"version": 1, "name": "wick0", "address": "10.87.0.1/24", "mac": "02:00:00:00:00:01",
 "nat": "nftables", "dhcp": false, "domain": "wick", "user": "", "uid": 0, "taps": [],
 "made": [{"what": "bridge", "index": $(ip -o link show wick0 | cut -d: -f1)},
          {"what": "forwarding", "index": 0}, {"what": "nat", "index": 0}]}
END
)";

TEST_F(NetNamespace, WhatAFormerWickMadeComesDown) {
  add_world();
  add_lan();
  before_ = snapshot();
  std::ofstream("/run/former.sh") << kFormerUp;
  EXPECT_EQ(shell("sh -e /run/former.sh"), "");
  expect_ok({"down"});
  expect_no_trace("after down");
  // `up` adds what that network lacks.
  EXPECT_EQ(shell("sh -e /run/former.sh"), "");
  EXPECT_TRUE(reaches("lan", "192.0.2.2"));
  expect_ok({"up"});
  EXPECT_FALSE(reaches("lan", "192.0.2.2"));
  expect_ok({"down"});
  expect_no_trace("after up and down");
  // Another network adds the guard, lets this network through, and removes the guard again.
  EXPECT_EQ(shell("sh -e /run/former.sh"), "");
  expect_ok({"up", "other"});
  EXPECT_FALSE(reaches("lan", "192.0.2.2"));
  expect_ok({"down", "other"});
  expect_ok({"down"});
  expect_no_trace("after both");
}

// Hides a program for the rest of the test.
bool hide(const std::string& program) {
  const auto path = find_program(program);
  return path && ::mount("/dev/null", path->c_str(), nullptr, MS_BIND, nullptr) == 0 &&
         !find_program(program);
}

TEST_F(NetNamespace, IptablesIsUsedWhereThereIsNoNft) {
  if (!find_program("iptables-restore")) GTEST_SKIP() << "needs iptables";
  // Listing a table creates it.
  const auto rules = [] {
    return shell(
               "iptables-save -t filter | grep -v '^[#:]'; iptables-save -t nat | grep -v "
               "'^[#:]'") +
           shell("iptables-save -t mangle | grep -v '^[#:]'") +
           shell("ip6tables-save -t mangle | grep -v '^[#:]'") +
           file_text(hostnet::kForwardingPath) + shell("ip -j link");
  };
  EXPECT_EQ(shell("iptables -t mangle -L -n >/dev/null; ip6tables -t mangle -L -n >/dev/null"), "");
  add_world();
  add_lan();
  EXPECT_EQ(shell("iptables -t nat -L -n >/dev/null"), "");
  const std::string before = rules();
  ASSERT_TRUE(hide("nft"));
  const Outcome up = wick({"up"});
  ASSERT_EQ(up.status, 0) << up.text;
  EXPECT_THAT(up.text, HasSubstr("NAT by iptables"));
  add_guest("alpha");
  const std::string alpha = boot("alpha");
  EXPECT_THAT(in("alpha", "busybox ping -c 1 -W 5 192.0.2.2"), HasSubstr(" 0% packet loss"));
  EXPECT_EQ(shell("ip -n world route add 10.87.0.0/24 via 192.0.2.1"), "");
  EXPECT_THAT(in("world", "busybox ping -c 1 -W 1 " + alpha), HasSubstr("100% packet loss"));
  EXPECT_FALSE(reaches("lan", "192.0.2.2")) << "the host forwards for strangers";
  expect_no_spoofing();
  EXPECT_EQ(shell("iptables -P FORWARD DROP"), "");  // as docker does
  EXPECT_TRUE(reaches("alpha", "192.0.2.2"));
  EXPECT_EQ(shell("iptables -P FORWARD ACCEPT"), "");
  expect_ok({"up", "other"});
  EXPECT_FALSE(reaches("lan", "192.0.2.2"));
  expect_networks_apart();
  expect_ok({"down", "other"});
  EXPECT_FALSE(reaches("lan", "192.0.2.2"));
  EXPECT_TRUE(reaches("alpha", "192.0.2.2"));
  remove_guest("alpha");
  // An administrator flushed the chains that jump to wick's.
  EXPECT_EQ(shell("iptables -F FORWARD"), "");
  expect_ok({"down"});
  EXPECT_EQ(rules(), before);

  at_every_action([&](Saboteur::Way way, int at) {
    const int status = status_of_child([&] {
      Saboteur saboteur(way, at);
      const auto done = net_up(NetUp(), saboteur);
      return done ? *done : 1;
    });
    expect_ok({"down"});
    EXPECT_EQ(rules(), before) << at;
    return status;
  });
  ASSERT_TRUE(hide("iptables-restore"));
  EXPECT_THAT(wick({"up"}).text, HasSubstr("apt-get install nftables"));
}

TEST_F(NetNamespace, AProgramThatIsMissingIsNamedBeforeAnythingIsMade) {
  ASSERT_TRUE(hide("dnsmasq"));
  const Outcome up = wick({"up"});
  EXPECT_EQ(up.status, 1);
  EXPECT_THAT(up.text, HasSubstr("dnsmasq: not found; install it: apt-get install dnsmasq-base"));
  expect_no_trace("without dnsmasq");
  expect_ok({"up", "--no-dhcp"});
  expect_ok({"down"});
  expect_no_trace("without DHCP");
}

TEST_F(NetNamespace, AnAddressThatIsInUseIsRefused) {
  EXPECT_EQ(shell("ip link add up0 type veth peer name up1 && ip addr add 10.87.0.9/24 dev up0 && "
                  "ip link set up0 up"),
            "");
  EXPECT_THAT(wick({"up", "--address", "10.87.0.1/16"}).text,
              HasSubstr("--address 10.87.0.1/16: overlaps 10.87.0.9/24 on up0"));
  expect_ok({"up"});
  EXPECT_EQ(status().at(0).at("address"), "10.87.1.1/24");
}

TEST_F(NetNamespace, AnotherDnsServerIsNamed) {
  EXPECT_EQ(shell("dnsmasq --conf-file= --no-resolv --pid-file=/run/wick/net/other/dnsmasq.pid "
                  "2>&1 || { mkdir -p /run/wick/net/other && dnsmasq --conf-file= --no-resolv "
                  "--pid-file=/run/wick/net/other/dnsmasq.pid; }")
                .find("exit status"),
            std::string::npos);
  const Outcome up = wick({"up"});
  EXPECT_EQ(up.status, 1);
  EXPECT_EQ(shell("kill $(cat /run/wick/net/other/dnsmasq.pid)"), "");
  EXPECT_THAT(up.text, HasSubstr("bind to its own interfaces only, or use --no-dhcp"));
  EXPECT_EQ(snapshot(), before_);
}

TEST_F(NetNamespace, AFirewallThatDropsIsWarnedOf) {
  EXPECT_EQ(
      shell("nft add table inet strict && nft add chain inet strict onward '{ type filter hook "
            "forward priority 0; policy drop; }'"),
      "");
  expect_ok({"up"});
  EXPECT_THAT(log(), HasSubstr("this host's firewall (inet strict onward) drops"));
  // The command in the warning fixes it.
  const std::string warning = log().substr(log().find("; nft ") + 2);
  EXPECT_EQ(shell(warning.substr(0, warning.find('\n'))), "") << warning;
  const size_t said = log().size();
  expect_ok({"up"});
  EXPECT_EQ(log().size(), said);
}

TEST_F(NetNamespace, ADamagedStateIsAnErrorThatNamesTheFile) {
  expect_ok({"up"});
  const std::string path = "/run/wick/net/wick0/state.json";
  const std::string state = file_text(path);
  std::ofstream(path) << state.substr(0, state.size() / 2);
  for (const char* command : {"up", "down", "status", "hosts"}) {
    const Outcome outcome = wick({command});
    EXPECT_EQ(outcome.status, 1) << command;
    EXPECT_THAT(outcome.text, HasSubstr(path + ": damaged")) << command;
  }
  std::ofstream(path) << state;
  expect_ok({"down"});
  expect_no_trace("after the file is whole again");
}

TEST_F(NetNamespace, LeasesOfHostileGuestsSendNothingToTheTerminal) {
  expect_ok({"up"});
  std::ofstream("/run/wick/net/wick0/leases")
      << "1795315651 02:00:00:00:00:02 10.87.0.33 a\x1b[2J\x07\x7f\xc2\x9b *\ngarbage\n\xff\xfe\n";
  const Outcome shown = wick({"status"});
  EXPECT_THAT(shown.text, HasSubstr("a\\x1b[2J\\x07\\x7f\\xc2\\x9b\n"));
  const std::string json = wick({"status", "--output", "json"}).text;
  for (const char* control : {"\x1b", "\x7f", "\xc2\x9b"}) {
    EXPECT_THAT(shown.text, Not(HasSubstr(control)));
    EXPECT_THAT(json, Not(HasSubstr(control)));
  }
  EXPECT_EQ(wick({"hosts"}).text, "");
}

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
    EXPECT_EQ(file_text(sysctls + name), "0\n") << name;
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
  const pid_t other = std::stoi(file_text("/run/other.pid"));
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
