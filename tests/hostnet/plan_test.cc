// The plan and the choices of wick net, without touching any network.
#include "hostnet/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hostnet/address.h"
#include "hostnet/firewall.h"

namespace wick::hostnet {
namespace {

using net::ipv4_string;
using net::Ipv4Subnet;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Arguments = std::vector<std::string>;

Ipv4Subnet subnet(const char* text) { return *net::parse_ipv4_subnet(text); }

// --- Addresses ---------------------------------------------------------------------------

HostView host_with_routes(std::initializer_list<const char*> routes) {
  HostView host;
  for (const char* route : routes) host.routes.push_back({subnet(route), "eth0"});
  return host;
}

std::string chosen(const HostView& host) {
  const auto address = choose_address(host);
  return address ? ipv4_string(*address) : address.error().message();
}

TEST(NetAddress, IsTheFirstThatNothingIsInTheWayOf) {
  EXPECT_EQ(chosen({}), "10.87.0.1/24");
  EXPECT_EQ(chosen(host_with_routes({"10.87.0.0/24"})), "10.87.1.1/24");
  EXPECT_EQ(chosen(host_with_routes({"10.87.0.0/23", "10.87.2.77"})), "10.87.3.1/24");
  EXPECT_EQ(chosen(host_with_routes({"10.0.0.0/8"})), "192.168.87.1/24");
  EXPECT_EQ(chosen(host_with_routes({"10.0.0.0/8", "192.168.0.0/17"})), "192.168.128.1/24");
  EXPECT_EQ(chosen(host_with_routes({"10.0.0.0/8", "192.168.64.0/18", "192.168.128.0/17"})),
            "192.168.0.1/24");
  EXPECT_THAT(chosen(host_with_routes({"10.0.0.0/8", "192.168.0.0/16"})), HasSubstr("--address"));
}

TEST(NetAddress, AvoidsAddressesToo) {
  HostView host;
  host.links.push_back({});
  host.links.back().name = "tun0";
  host.links.back().addresses = {subnet("10.87.0.200")};
  EXPECT_EQ(chosen(host), "10.87.1.1/24");
  EXPECT_EQ(overlap(host, subnet("10.87.0.1/24")), "10.87.0.200/32 on tun0");
  EXPECT_EQ(overlap(host, subnet("10.87.1.1/24")), std::nullopt);
}

TEST(NetAddress, DhcpLeavesSomeForOthers) {
  const auto range = [](const char* text) {
    const auto [first, last] = dhcp_range(subnet(text));
    return ipv4_string(first) + "-" + ipv4_string(last);
  };
  EXPECT_EQ(range("10.87.0.1/24"), "10.87.0.32-10.87.0.254");
  EXPECT_EQ(range("10.87.0.254/24"), "10.87.0.32-10.87.0.253");
  EXPECT_EQ(range("10.87.0.40/24"), "10.87.0.41-10.87.0.254");
  EXPECT_EQ(range("10.9.0.1/16"), "10.9.32.0-10.9.255.254");
  EXPECT_EQ(range("10.9.0.1/30"), "10.9.0.2-10.9.0.2");
  EXPECT_EQ(range("10.9.0.2/30"), "10.9.0.1-10.9.0.1");
  EXPECT_EQ(range("10.9.0.1/29"), "10.9.0.2-10.9.0.6");
}

// --- Output of ip ------------------------------------------------------------------------

TEST(NetHost, ReadsWhatIpSays) {
  const auto links = parse_links(R"([{},
    {"ifindex":3,"ifname":"wick0","flags":["NO-CARRIER","BROADCAST","UP"],"address":"02:11:22:33:44:55",
     "linkinfo":{"info_kind":"bridge","info_data":{}},
     "addr_info":[{"family":"inet","local":"10.87.0.1","prefixlen":24},
                  {"family":"inet6","local":"fe80::1","prefixlen":64}]},
    {"ifindex":4,"ifname":"wick0-t0","flags":["LOWER_UP"],"master":"wick0",
     "linkinfo":{"info_kind":"tun","info_data":{"type":"tap","user":"alice"}}}])");
  ASSERT_TRUE(links);
  ASSERT_EQ(links->size(), 2u);
  EXPECT_EQ(links->at(0).name, "wick0");
  EXPECT_EQ(links->at(0).index, 3u);
  EXPECT_EQ(links->at(0).mac, "02:11:22:33:44:55");
  EXPECT_EQ(links->at(0).kind, "bridge");
  EXPECT_TRUE(links->at(0).up);
  EXPECT_THAT(links->at(0).addresses, ElementsAre(subnet("10.87.0.1/24")));
  EXPECT_FALSE(links->at(1).up);
  EXPECT_EQ(links->at(1).master, "wick0");
  EXPECT_EQ(links->at(1).tap_owner, "alice");
}

TEST(NetHost, RoutesToEverywhereHideNoNetwork) {
  const auto routes =
      parse_routes(R"([{"dst":"default","dev":"eth0"},{"dst":"0.0.0.0/1","dev":"tun0"},
    {"dst":"128.0.0.0/1","dev":"tun0"},{"dst":"10.0.0.0/8","dev":"tun0"},{"dst":"10.1.2.3","type":"local"}])");
  ASSERT_TRUE(routes);
  ASSERT_EQ(routes->size(), 2u);
  EXPECT_EQ(routes->at(0).destination, subnet("10.0.0.0/8"));
  EXPECT_EQ(routes->at(0).interface, "tun0");
  EXPECT_EQ(routes->at(1).destination, subnet("10.1.2.3/32"));
}

TEST(NetHost, AnswersThatAreNoneAreErrors) {
  EXPECT_TRUE(parse_links("")->empty());
  for (const char* wrong : {"{", "{}", "null", "[1"}) {
    EXPECT_FALSE(parse_links(wrong)) << wrong;
    EXPECT_FALSE(parse_routes(wrong)) << wrong;
  }
  EXPECT_TRUE(parse_links(R"([1, null, "x", {"ifname": 5}, {"flags": 7}])")->empty());
}

// --- The plan ----------------------------------------------------------------------------

HostNetwork example() {
  HostNetwork network;
  network.name = "wick0";
  network.address = subnet("10.87.0.1/24");
  network.mac = "02:00:00:00:00:01";
  network.nat = HostNetwork::Nat::kNftables;
  network.user = "alice";
  network.taps = {"wick0-t0"};
  return network;
}

std::string lines_up(const HostNetwork& network) {
  std::string text;
  for (const Step& step : plan(network))
    for (const Action& action : step.make) text += shell_line(action);
  return text;
}

std::string lines_down(const HostNetwork& network) {
  std::string text;
  auto steps = plan(network);
  std::ranges::reverse(steps);
  for (const Step& step : steps)
    for (const Action& action : step.undo) text += shell_line(action);
  return text;
}

TEST(NetPlan, IsWhatAPersonWouldType) {
  EXPECT_EQ(lines_up(example()),
            R"(install -d -m 755 /run/wick /run/wick/net /run/wick/net/wick0
ip link add name wick0 address 02:00:00:00:00:01 type bridge forward_delay 0
[ ! -e /proc/sys/net/ipv6/conf/wick0/accept_ra ] || echo 0 >/proc/sys/net/ipv6/conf/wick0/accept_ra
[ ! -e /proc/sys/net/ipv6/conf/wick0/autoconf ] || echo 0 >/proc/sys/net/ipv6/conf/wick0/autoconf
[ ! -e /proc/sys/net/ipv6/conf/wick0/accept_redirects ] || echo 0 >/proc/sys/net/ipv6/conf/wick0/accept_redirects
ip addr replace 10.87.0.1/24 broadcast + dev wick0
ip link set dev wick0 up
nft -f - <<'END'
table inet wick_wick0 {
  chain sources {
    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
    ip saddr 10.87.0.0/24 accept
    ip6 saddr { ::, fe80::/10 } accept
    drop
  }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "wick0" jump sources
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "wick0" oifname "wick0" accept
    iifname "wick0" jump sources
    oifname "wick0" ct state established,related accept
    oifname "wick0" ct status dnat accept
    oifname "wick0" drop
  }
}
END
nft -f - <<'END' || true
table bridge wick_wick0 {
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    ether saddr 02:00:00:00:00:01 drop
    arp saddr ip 10.87.0.1 drop
  }
}
END
nft -f - <<'END'
table ip wick_wick0 {
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 10.87.0.0/24 oifname != "wick0" masquerade
  }
}
END
nft -f - <<'END'
table ip wick-forwarding
delete table ip wick-forwarding
table ip wick-forwarding {
  set bridged {
    type iface_index . iface_index
    size 1024
    flags dynamic
  }
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    meta iifkind "bridge" add @bridged { iif . iif }
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname { "wick0" } accept
    oifname { "wick0" } accept
    iif . oif @bridged accept
    drop
  }
}
END
echo 0 >/proc/sys/net/ipv4/conf/all/accept_redirects
echo 1 >/proc/sys/net/ipv4/ip_forward
)"
            "dnsmasq --conf-file= --bind-interfaces --interface=wick0 "
            "--except-interface=lo "
            "--pid-file=/run/wick/net/wick0/dnsmasq.pid "
            "--dhcp-leasefile=/run/wick/net/wick0/leases "
            "--dhcp-range=10.87.0.32,10.87.0.254,255.255.255.0,1h "
            "--dhcp-authoritative --no-ping --no-hosts --domain=wick "
            "--local=/wick/ --domain-needed --host-record=host.wick,10.87.0.1 "
            "--dhcp-name-match=set:wpad,wpad --dhcp-ignore-names=tag:wpad\n"
            R"(install -m 600 -o alice /dev/null /run/wick/net/wick0/wick0-t0.lock
ip tuntap add dev wick0-t0 mode tap user alice vnet_hdr multi_queue
ip link set dev wick0-t0 master wick0 up
)");
  EXPECT_EQ(lines_down(example()), R"--(ip link del dev wick0-t0
kill "$(cat /run/wick/net/wick0/dnsmasq.pid)"
echo 0 >/proc/sys/net/ipv4/ip_forward
echo 0 >/proc/sys/net/ipv4/conf/all/accept_redirects
nft delete table ip wick-forwarding
nft delete table ip wick_wick0
nft delete table bridge wick_wick0
nft delete table inet wick_wick0
ip link del dev wick0
rm -r /run/wick/net/wick0
)--");
}

TEST(NetPlan, WithIptablesHasChainsOfItsOwn) {
  HostNetwork network = example();
  network.nat = HostNetwork::Nat::kIptables;
  const std::string up = lines_up(network);
  EXPECT_THAT(up, HasSubstr(":wick_wick0 - [0:0]\n"));
  EXPECT_THAT(up, HasSubstr("-A wick_wick0 -s 10.87.0.0/24 ! -o wick0 -j MASQUERADE\n"));
  EXPECT_THAT(up, HasSubstr("-I FORWARD -j wick_wick0\n"));
  EXPECT_THAT(up, HasSubstr("-I INPUT -j wick_wick0.in\n"));
  EXPECT_THAT(up, Not(HasSubstr("nft")));
  EXPECT_THAT(lines_down(network), HasSubstr("iptables -w -t nat -D POSTROUTING -j wick_wick0 || "
                                             "true\niptables -w -t nat -F wick_wick0\n"
                                             "iptables -w -t nat -X wick_wick0\n"));
}

TEST(NetPlan, WithOtherNetworksKeepsWhatTheyNeed) {
  HostNetwork other = example();
  other.name = "lab-1";
  other.made = {{kForwardingGuardStep, 0}, {kForwardingStep, 0}};
  for (const auto nat : {HostNetwork::Nat::kNftables, HostNetwork::Nat::kIptables}) {
    HostNetwork network = example();
    network.nat = nat;
    std::string up;
    std::string down;
    for (const Step& step : plan(network, {other})) {
      for (const Action& action : step.make) up += shell_line(action);
      for (const Action& action : step.undo) down += shell_line(action);
    }
    EXPECT_THAT(up, HasSubstr(nat == HostNetwork::Nat::kNftables
                                  ? "iifname { \"lab-1\", \"wick0\" } accept"
                                  : "-A wick-forwarding -i lab-1 -j RETURN"));
    EXPECT_THAT(down, HasSubstr(nat == HostNetwork::Nat::kNftables
                                    ? "iifname { \"lab-1\" } accept"
                                    : "-A wick-forwarding -i lab-1 -j RETURN"));
    EXPECT_THAT(down, Not(HasSubstr("ip_forward")));
    EXPECT_THAT(down, Not(HasSubstr("delete table ip wick-forwarding\nip")));
    EXPECT_THAT(down, Not(HasSubstr("-X wick-forwarding")));
  }
}

TEST(NetPlan, LeavesOutWhatIsNotWanted) {
  HostNetwork network = example();
  network.nat = HostNetwork::Nat::kNone;
  network.taps.clear();
  EXPECT_THAT(lines_up(network), Not(HasSubstr("ip_forward")));
  EXPECT_THAT(lines_up(network), Not(HasSubstr("nft")));
  EXPECT_THAT(lines_up(network), HasSubstr("--dhcp-option=3\n"));  // no router
  network.dhcp = false;
  EXPECT_EQ(lines_up(network),
            "install -d -m 755 /run/wick /run/wick/net /run/wick/net/wick0\n"
            "ip link add name wick0 address 02:00:00:00:00:01 type bridge forward_delay 0\n"
            "[ ! -e /proc/sys/net/ipv6/conf/wick0/accept_ra ] || echo 0 "
            ">/proc/sys/net/ipv6/conf/wick0/accept_ra\n"
            "[ ! -e /proc/sys/net/ipv6/conf/wick0/autoconf ] || echo 0 "
            ">/proc/sys/net/ipv6/conf/wick0/autoconf\n"
            "[ ! -e /proc/sys/net/ipv6/conf/wick0/accept_redirects ] || echo 0 "
            ">/proc/sys/net/ipv6/conf/wick0/accept_redirects\n"
            "ip addr replace 10.87.0.1/24 broadcast + dev wick0\n"
            "ip link set dev wick0 up\n");
}

TEST(NetPlan, TheBridgesAddressIsOfTheHostAndTheName) {
  const std::string mac = bridge_mac("0123", "wick0");
  EXPECT_EQ(mac.size(), 17u);
  EXPECT_TRUE(mac.starts_with("02:"));
  EXPECT_EQ(mac, bridge_mac("0123", "wick0"));
  EXPECT_NE(mac, bridge_mac("0123", "wick1"));
  EXPECT_NE(mac, bridge_mac("0124", "wick0"));
}

// --- Firewalls ---------------------------------------------------------------------------

TEST(NetFirewall, ThatDropsIsWarnedOfWithTheMend) {
  const auto warnings = firewall_warnings(R"({"nftables": [{"metainfo": {}},
    {"table": {"family": "inet", "name": "strict"}},
    {"chain": {"family": "inet", "table": "strict", "name": "in", "hook": "input", "policy": "drop"}},
    {"chain": {"family": "inet", "table": "strict", "name": "fwd", "hook": "forward", "policy": "drop"}},
    {"chain": {"family": "ip", "table": "wick_wick0", "name": "f", "hook": "forward", "policy": "drop"}},
    {"chain": {"family": "ip6", "table": "six", "name": "f", "hook": "forward", "policy": "drop"}},
    {"chain": {"family": "inet", "table": "open", "name": "f", "hook": "forward", "policy": "accept"}}]})",
                                          example());
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_THAT(warnings[0], HasSubstr("(inet strict in)"));
  EXPECT_THAT(warnings[0],
              HasSubstr("nft 'insert rule inet strict in iifname \"wick0\" udp dport"));
  EXPECT_THAT(warnings[1], HasSubstr("nft 'insert rule inet strict fwd iifname \"wick0\" accept'"));
}

TEST(NetFirewall, ThatIsNotInTheWayIsNotWarnedOf) {
  const std::string chain =
      R"({"nftables": [{"chain": {"family": "inet", "table": "t", "name": "c", "hook": "HOOK", "policy": "drop"}}]})";
  const auto warnings = [&](const char* hook, const HostNetwork& network) {
    std::string text = chain;
    return firewall_warnings(text.replace(text.find("HOOK"), 4, hook), network).size();
  };
  HostNetwork network = example();
  EXPECT_EQ(warnings("forward", network), 1u);
  EXPECT_EQ(warnings("input", network), 1u);
  EXPECT_EQ(warnings("output", network), 0u);
  network.nat = HostNetwork::Nat::kNone;
  EXPECT_EQ(warnings("forward", network), 0u);
  network.dhcp = false;
  EXPECT_EQ(warnings("input", network), 0u);
}

TEST(NetFirewall, OfDockerHasAPlaceForUsersRules) {
  const std::string chains =
      R"({"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
         {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER"}})";
  const auto warnings = firewall_warnings("{\"nftables\": [" + chains + "]}", example());
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("iptables -I DOCKER-USER -i wick0 -j ACCEPT"));
  // With a rule for the bridge there is no warning:
  EXPECT_THAT(firewall_warnings("{\"nftables\": [" + chains +
                                    R"(, {"rule": {"family": "ip", "table": "filter",
                                          "chain": "DOCKER-USER", "expr": [{"match":
                                          {"right": "wick0"}}, {"accept": null}]}}]})",
                                example()),
              IsEmpty());
  EXPECT_THAT(iptables_warnings("-P FORWARD DROP\n-N DOCKER-USER\n", example())[0],
              HasSubstr("-I DOCKER-USER -i wick0"));
  EXPECT_THAT(iptables_warnings("-P FORWARD DROP\n-A DOCKER-USER -i wick0 -j ACCEPT\n", example()),
              IsEmpty());
}

TEST(NetFirewall, AnAnswerThatIsNoneGivesNoWarning) {
  for (const char* ruleset : {"", "[", "{}", "{\"nftables\": 5}", "{\"nftables\": [1, {}, [2]]}",
                              "{\"nftables\": [{\"chain\": 5}, {\"table\": null}]}"})
    EXPECT_THAT(firewall_warnings(ruleset, example()), IsEmpty()) << ruleset;
}

}  // namespace
}  // namespace wick::hostnet
