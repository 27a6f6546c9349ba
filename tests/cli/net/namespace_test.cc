// wick net as root; each test has its own network namespace. Everything that `up` makes works,
// and `down` removes all of it, whatever happened in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/cli/net/namespace_fixture.h"

namespace wick::cli {
namespace {

TEST_F(NetNamespace, UpStatusDownLeaveNoTrace) {
  const Outcome up = wick({"up", "--user", "nobody", "--taps", "2"});
  ASSERT_EQ(up.status, 0) << up.text;
  EXPECT_EQ(up.text,
            "wick0 is up: 10.87.0.1/24, NAT by nftables, DHCP and names in .wick by dnsmasq, 2 "
            "TAPs for nobody\n");
  EXPECT_EQ(read_file(hostnet::kForwardingPath), "1\n");
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
  EXPECT_EQ(read_file(hostnet::kForwardingPath), "1\n");
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
  const std::string state = read_file("/run/wick/net/wick0/state.json");
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

TEST_F(NetNamespace, ForwardingIsGivenBackByTheLastNetwork) {
  expect_ok({"up", "one"});
  expect_ok({"up", "two"});
  EXPECT_EQ(status().at(1).at("address"), "10.87.1.1/24");
  expect_ok({"down", "one"});
  EXPECT_EQ(read_file(hostnet::kForwardingPath), "1\n");
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

TEST_F(NetNamespace, ADamagedStateIsAnErrorThatNamesTheFile) {
  expect_ok({"up"});
  const std::string path = "/run/wick/net/wick0/state.json";
  const std::string state = read_file(path);
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

}  // namespace
}  // namespace wick::cli
