#include "hostnet/plan.h"

#include <fmt/format.h>

#include "base/process.h"
#include "hostnet/address.h"
#include "hostnet/host_view.h"
#include "hostnet/leases.h"
#include "net/ipv6_sysctls.h"
#include "net/mac_address.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace wick::hostnet {

namespace {

using Kind = Step::Kind;

Action run(std::vector<std::string> arguments, std::string input = {}) {
  return RunCommand{std::move(arguments), std::move(input)};
}

// As usual for NAT, the host drops packets to the guests from outside, except for replies and
// for ports that the host forwards (dnat). It drops packets from guests whose source address is
// not of their network; a DHCP client without an address uses 0.0.0.0. Guests can use IPv6 only
// among themselves and with the host. With br_netfilter, frames from guest to guest also pass
// the forward hook; they enter and leave by the bridge, and are accepted.
constexpr const char* kFilterRules = R"(table inet {table} {{
  chain sources {{
    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
    ip saddr {subnet} accept
    ip6 saddr {{ ::, fe80::/10 }} accept
    drop
  }}
  chain input {{
    type filter hook input priority 0; policy accept;
    iifname "{bridge}" jump sources
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname "{bridge}" oifname "{bridge}" accept
    iifname "{bridge}" jump sources
    oifname "{bridge}" ct state established,related accept
    oifname "{bridge}" ct status dnat accept
    oifname "{bridge}" drop
  }}
}}
)";
// Drops frames from guests with the host's own addresses: such a guest would receive the other
// guests' packets to the host. The rules do not match the bridge, because not every kernel
// supports that, but no other bridge has these addresses.
constexpr const char* kNeighbourRules = R"(table bridge {table} {{
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    ether saddr {mac} drop
    arp saddr ip {own} drop
  }}
}}
)";
constexpr const char* kNftNatRules = R"(table ip {table} {{
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr {subnet} oifname != "{bridge}" masquerade
  }}
}}
)";

// ip_forward lets all interfaces forward to all others. If wick has turned on ip_forward, these
// rules let only guests use it. With br_netfilter, a frame that only crosses a bridge also passes
// the forward hook; the frame leaves by the bridge that it came from, and is accepted. The table is
// replaced as a whole, so that there is no moment without it.
constexpr const char* kForwardingGuardRules = R"(table ip {guard}
delete table ip {guard}
table ip {guard} {{
  set bridged {{
    type iface_index . iface_index
    size 1024
    flags dynamic
  }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    meta iifkind "bridge" add @bridged {{ iif . iif }}
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname {{ {bridges} }} accept
    oifname {{ {bridges} }} accept
    iif . oif @bridged accept
    drop
  }}
}}
)";

// iptables-restore applies each table as a whole or not at all. In table `filter`, -I puts the jump
// at the head of FORWARD (in kInputRules: of INPUT), so that no earlier rule drops the packets.
constexpr const char* kForwardRules = R"(*filter
:{chain} - [0:0]
-A {chain} -i {bridge} -j ACCEPT
-A {chain} -o {bridge} -j ACCEPT
-I FORWARD -j {chain}
COMMIT
)";
// These rules are in table mangle, so that they drop packets before other networks' rules in table
// filter accept them.
constexpr const char* kGuardRules = R"(*mangle
:{chain} - [0:0]
-A {chain} ! -i {bridge} -o {bridge} -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A FORWARD -j {chain}
COMMIT
)";
// The rules of the chain `sources` in kFilterRules, here for IPv4; kSourceRules6 is for IPv6.
constexpr const char* kSourceRules = R"(*mangle
:{chain} - [0:0]
-A {chain} ! -i {bridge} -j RETURN
-A {chain} -o {bridge} -j RETURN
-A {chain} -s 0.0.0.0 -p udp --sport 68 --dport 67 -j RETURN
-A {chain} ! -s {subnet} -j DROP
-A INPUT -j {chain}
-A FORWARD -j {chain}
COMMIT
)";
constexpr const char* kSourceRules6 = R"(*mangle
:{chain} - [0:0]
-A {chain} -i {bridge} -o {bridge} -j RETURN
-A {chain} -o {bridge} -j DROP
-A {chain} ! -i {bridge} -j RETURN
-A {chain} -s fe80::/10 -j RETURN
-A {chain} ! -s :: -j DROP
-A INPUT -j {chain}
-A FORWARD -j {chain}
COMMIT
)";
constexpr const char* kInputRules = R"(*filter
:{chain} - [0:0]
-A {chain} -i {bridge} -p udp --dport 67 -j ACCEPT
-A {chain} -i {bridge} -p udp --dport 53 -j ACCEPT
-A {chain} -i {bridge} -p tcp --dport 53 -j ACCEPT
-I INPUT -j {chain}
COMMIT
)";
constexpr const char* kNatRules = R"(*nat
:{chain} - [0:0]
-A {chain} -s {subnet} ! -o {bridge} -j MASQUERADE
-A POSTROUTING -j {chain}
COMMIT
)";

std::string subnet_of(const HostNetwork& network) {
  return net::ipv4_string(net::Ipv4Subnet{network.address.first(), network.address.prefix_bits});
}

Step table_step(const char* name, const char* family, const std::string& table, std::string rules) {
  return {Kind::kTable,
          name,
          table,
          {run({"nft", "-f", "-"}, std::move(rules))},
          {run({"nft", "delete", "table", family, table})},
          {"nft", "list", "table", family, table}};
}

RunCommand iptables(std::vector<std::string> arguments, const char* program = "iptables",
                    bool may_fail = false) {
  arguments.insert(arguments.begin(), {program, "-w", "-t"});
  return {std::move(arguments), {}, may_fail};
}

Action restore(std::string rules, const char* program = "iptables") {
  return run({fmt::format("{}-restore", program), "-w", "--noflush"}, std::move(rules));
}

// Returns the step for one of wick's chains and the rules that jump to it. Removing these rules may
// fail, because an administrator may have flushed them.
Step chain_step(const HostNetwork& network, const char* name, const std::string& chain,
                const char* table, std::vector<std::string> from, const char* rules,
                const char* program = "iptables") {
  Step step{Kind::kChain,
            name,
            chain,
            {restore(fmt::format(fmt::runtime(rules), fmt::arg("chain", chain),
                                 fmt::arg("bridge", network.name),
                                 fmt::arg("subnet", subnet_of(network))),
                     program)}};
  for (const std::string& hook : from)
    step.undo.emplace_back(iptables({table, "-D", hook, "-j", chain}, program, true));
  step.undo.emplace_back(iptables({table, "-F", chain}, program));
  step.undo.emplace_back(iptables({table, "-X", chain}, program));
  step.query = iptables({table, "-S", chain}, program).arguments;
  return step;
}

std::string forwarding_table(const std::vector<std::string>& bridges) {
  return fmt::format(kForwardingGuardRules, fmt::arg("guard", kForwardingGuard),
                     fmt::arg("bridges", fmt::format("\"{}\"", fmt::join(bridges, "\", \""))));
}

// Returns the guard's chain. The caller must add the rules that jump to the chain, and COMMIT.
std::string forwarding_chain(const std::vector<std::string>& bridges) {
  std::string rules = fmt::format("*mangle\n:{} - [0:0]\n", kForwardingGuard);
  for (const std::string& bridge : bridges)
    rules +=
        fmt::format("-A {0} -i {1} -j RETURN\n-A {0} -o {1} -j RETURN\n", kForwardingGuard, bridge);
  return rules + fmt::format("-A {} -j DROP\n", kForwardingGuard);
}

bool has_made(const std::vector<HostNetwork>& networks, const char* step) {
  return std::ranges::any_of(
      networks, [&](const HostNetwork& network) { return network.find_made(step) != nullptr; });
}

// Returns the step of the guard, which lets all forwarding networks through, even those of an older
// wick without a guard. The last network that has the guard removes it.
Step forwarding_guard(const HostNetwork& network, const std::vector<HostNetwork>& others) {
  std::vector<std::string> bridges;
  for (const HostNetwork& other : others) bridges.push_back(other.name);
  const std::vector<std::string> without = bridges;
  bridges.push_back(network.name);
  const bool shared = has_made(others, kForwardingGuardStep);
  if (network.nat == HostNetwork::Nat::kNftables) {
    Step step = table_step(kForwardingGuardStep, "ip", kForwardingGuard, forwarding_table(bridges));
    step.shared = shared;
    if (shared) step.undo = {run({"nft", "-f", "-"}, forwarding_table(without))};
    return step;
  }
  // Each network has its own rule that jumps to the chain, so that the rule can be removed alone.
  const std::vector<std::string> jump = {"FORWARD", "!",          "-i", network.name,    "!",
                                         "-o",      network.name, "-j", kForwardingGuard};
  std::vector<std::string> remove = {"mangle", "-D"};
  remove.insert(remove.end(), jump.begin(), jump.end());
  Step step{
      Kind::kChain,
      kForwardingGuardStep,
      kForwardingGuard,
      {restore(forwarding_chain(bridges) + fmt::format("-A {}\nCOMMIT\n", fmt::join(jump, " ")))},
      {iptables(std::move(remove), "iptables", true)},
      iptables({"mangle", "-S", kForwardingGuard}).arguments,
      shared};
  if (shared) {
    step.undo.push_back(restore(forwarding_chain(without) + "COMMIT\n"));
  } else {
    step.undo.emplace_back(iptables({"mangle", "-F", kForwardingGuard}));
    step.undo.emplace_back(iptables({"mangle", "-X", kForwardingGuard}));
  }
  return step;
}

void add_filters(std::vector<Step>& steps, const HostNetwork& network) {
  const std::string table = table_name(network.name);
  if (network.nat == HostNetwork::Nat::kNftables) {
    const auto rules = [&](const char* format) {
      return fmt::format(fmt::runtime(format), fmt::arg("table", table),
                         fmt::arg("bridge", network.name), fmt::arg("subnet", subnet_of(network)),
                         fmt::arg("mac", network.mac),
                         fmt::arg("own", net::ipv4_string(network.address.address)));
    };
    steps.push_back(table_step(kFilterStep, "inet", table, rules(kFilterRules)));
    // These rules protect only guests from each other, so they may fail on a kernel without
    // nftables for bridges.
    steps.push_back(table_step(kNeighboursStep, "bridge", table, rules(kNeighbourRules)));
    std::get<RunCommand>(steps.back().make.front()).may_fail = true;
    steps.push_back(table_step(kNatStep, "ip", table, rules(kNftNatRules)));
    return;
  }
  const auto add = [&](const char* name, const char* suffix, const char* in,
                       std::vector<std::string> from, const char* rules,
                       const char* program = "iptables") {
    steps.push_back(chain_step(network, name, table + suffix, in, std::move(from), rules, program));
  };
  add(kSourcesStep, ".src", "mangle", {"INPUT", "FORWARD"}, kSourceRules);
  add(kSources6Step, ".src", "mangle", {"INPUT", "FORWARD"}, kSourceRules6, kIp6tables);
  add(kGuardStep, "", "mangle", {"FORWARD"}, kGuardRules);
  add(kForwardStep, "", "filter", {"FORWARD"}, kForwardRules);
  if (network.dhcp) add(kInputStep, ".in", "filter", {"INPUT"}, kInputRules);
  add(kNatStep, "", "nat", {"POSTROUTING"}, kNatRules);
}

// Adds the steps of NAT. Forwarding is turned on last and off first, so that it is never on without
// the filters.
void add_nat(std::vector<Step>& steps, const HostNetwork& network,
             const std::vector<HostNetwork>& others) {
  if (network.nat == HostNetwork::Nat::kNone) return;
  add_filters(steps, network);
  steps.push_back(forwarding_guard(network, others));
  const auto add = [&](Kind kind, const char* name, const char* path, const char* value) {
    Step step{kind, name, path, {WriteValue{path, value}}};
    step.shared = has_made(others, name);
    if (!step.shared) step.undo.emplace_back(WriteValue{path, "0"});
    steps.push_back(std::move(step));
  };
  // When ip_forward becomes 0 the kernel sets accept_redirects to 1, because hosts accept redirects
  // and routers do not. If accept_redirects was 0 before, undoing this step restores the 0.
  add(Kind::kRedirects, kRedirectsStep, kRedirectsPath, "0");
  add(Kind::kForwarding, kForwardingStep, kForwardingPath, "1");
}

Step sysctls(const std::string& bridge) {
  Step step{Kind::kSysctls, "", bridge, {}};
  for (const std::string& path : net::ipv6_sysctls(bridge))
    step.make.emplace_back(WriteValue{path, "0", true});
  return step;
}

Step dnsmasq(const HostNetwork& network) {
  const AddressRange range = dhcp_range(network.address);
  const std::string own = net::ipv4_string(network.address.address);
  const std::string pid_path = dnsmasq_pid_path(network.name);
  std::vector<std::string> arguments = {
      "dnsmasq",
      "--conf-file=",  // do not read the host's configuration
      "--bind-interfaces",
      "--interface=" + network.name,
      "--except-interface=lo",
      "--pid-file=" + pid_path,
      "--dhcp-leasefile=" + dhcp_leases_path(network.name),
      fmt::format("--dhcp-range={},{},{},1h", net::ipv4_string(range.first),
                  net::ipv4_string(range.last), net::ipv4_string(network.address.mask())),
      "--dhcp-authoritative",
      "--no-ping",  // a ping would delay each first boot by three seconds
      "--no-hosts",
      "--domain=" + network.domain,
      fmt::format("--local=/{}/", network.domain),
      "--domain-needed",
      fmt::format("--host-record=host.{},{}", network.domain, own),
      // Browsers would use a guest with this name as their proxy (CERT VU#598349).
      "--dhcp-name-match=set:wpad,wpad",
      "--dhcp-ignore-names=tag:wpad",
  };
  // An empty option 3 means "no router".
  if (network.nat == HostNetwork::Nat::kNone) arguments.push_back("--dhcp-option=3");
  return {Kind::kDnsmasq,
          kDhcpStep,
          "dnsmasq of " + network.name,
          {run(std::move(arguments))},
          {StopDnsmasq{network.name}}};
}

void add_tap(std::vector<Step>& steps, const HostNetwork& network, const std::string& tap) {
  const std::string lock = tap_lock_path(network, tap);
  steps.push_back({Kind::kLock,
                   "",
                   lock,
                   {run({"install", "-m", "600", "-o", network.user, "/dev/null", lock})}});
  steps.push_back({Kind::kTap,
                   tap_step(tap),
                   tap,
                   {run({"ip", "tuntap", "add", "dev", tap, "mode", "tap", "user", network.user,
                         "vnet_hdr", "multi_queue"})},
                   {run({"ip", "link", "del", "dev", tap})}});
  steps.push_back({Kind::kPort,
                   "",
                   tap,
                   {run({"ip", "link", "set", "dev", tap, "master", network.name, "up"})}});
}

}  // namespace

std::vector<Step> plan(const HostNetwork& network, const std::vector<HostNetwork>& others) {
  const std::string& bridge = network.name;
  const std::string folder = network_folder(network.name);
  std::vector<Step> steps = {
      {Kind::kFolder,
       "",
       folder,
       {run({"install", "-d", "-m", "755", "/run/wick", networks_folder(), folder})},
       {run({"rm", "-r", folder})}},
      // With the default forward delay a new guest would have to wait 15 s.
      {Kind::kBridge,
       kBridgeStep,
       bridge,
       {run({"ip", "link", "add", "name", bridge, "address", network.mac, "type", "bridge",
             "forward_delay", "0"})},
       {run({"ip", "link", "del", "dev", bridge})}},
      sysctls(bridge),
      {Kind::kAddress,
       "",
       bridge,
       {run({"ip", "addr", "replace", net::ipv4_string(network.address), "broadcast", "+", "dev",
             bridge}),
        run({"ip", "link", "set", "dev", bridge, "up"})}},
  };
  add_nat(steps, network, others);
  if (network.dhcp) steps.push_back(dnsmasq(network));
  for (const std::string& tap : network.taps) add_tap(steps, network, tap);
  return steps;
}

std::string shell_line(const Action& action) {
  if (const auto* const value = std::get_if<WriteValue>(&action))
    return fmt::format("{}echo {} >{}\n",
                       value->may_be_missing ? fmt::format("[ ! -e {} ] || ", value->path) : "",
                       value->value, value->path);
  if (const auto* const stop = std::get_if<StopDnsmasq>(&action))
    return fmt::format("kill \"$(cat {})\"\n", shell_words({{dnsmasq_pid_path(stop->network)}}));
  const auto& command = std::get<RunCommand>(action);
  const std::string line = shell_words(command.arguments);
  const char* const otherwise = command.may_fail ? " || true" : "";
  if (command.input.empty()) return line + otherwise + "\n";
  return fmt::format("{} <<'END'{}\n{}END\n", line, otherwise, command.input);
}

std::string table_name(const std::string& network) { return "wick_" + network; }

std::string dnsmasq_pid_path(const std::string& network) {
  return network_folder(network) + "/dnsmasq.pid";
}

std::string bridge_mac(const std::string& machine_id, const std::string& network) {
  net::MacAddress mac = net::derive_mac(fmt::format("{}/{}", machine_id, network));
  mac.front() = 2;  // makes bridges easy to distinguish from guests
  return net::to_text(mac);
}

}  // namespace wick::hostnet
