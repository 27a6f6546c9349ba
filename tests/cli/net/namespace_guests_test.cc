// What guests of a wick net reach, and what they do not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/cli/net/namespace_fixture.h"

namespace wick::cli {
namespace {

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
  EXPECT_EQ(read_file("/run/options-alpha"), "10.87.0.1 wick\n");

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
  EXPECT_EQ(read_file(hostnet::kForwardingPath), "0\n");
  add_guest("alpha");
  boot("alpha");
  EXPECT_EQ(read_file("/run/options-alpha"), "10.87.0.1 lab.test\n");
  EXPECT_EQ(in("alpha", "ip route show default"), "");
  remove_guest("alpha");
  expect_ok({"down"});
  expect_no_trace("after --no-nat");
}

TEST_F(NetNamespace, ForwardingThatItTurnsOnIsForItsGuestsAlone) {
  add_world();
  add_lan();
  before_ = snapshot();
  const std::string forwarding6 = "/proc/sys/net/ipv6/conf/all/forwarding";
  const std::string before6 = read_file(forwarding6);
  EXPECT_FALSE(reaches("lan", "192.0.2.2"));
  expect_ok({"up"});
  EXPECT_FALSE(reaches("lan", "192.0.2.2")) << "the host forwards for strangers";
  EXPECT_FALSE(reaches("world", "198.51.100.2"));
  EXPECT_TRUE(reaches("lan", "198.51.100.1"));
  EXPECT_EQ(read_file(forwarding6), before6);
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
    EXPECT_EQ(read_file(path), value);
    expect_no_trace("after both");
  }
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
           read_file(hostnet::kForwardingPath) + shell("ip -j link");
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

}  // namespace
}  // namespace wick::cli
