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

// The host drops what comes from elsewhere to the guests unless they asked for it, or
// the host forwards a port to them: so networks with NAT are everywhere. It drops what
// guests send from addresses that are not of their network; a client that has none yet
// asks DHCP from 0.0.0.0. Guests have IPv6 among themselves and with the host only. Where
// br_netfilter is loaded, frames from guest to guest pass here as well, in and out by the
// bridge: they are the guests' own affair.
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
// What a guest sends in the host's name: it would get what other guests send to the host.
// Not every kernel can tell which bridge a frame is on, but no other bridge has these
// addresses.
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

// Turning forwarding on lets all interfaces forward to all others. Where wick has turned
// it on, it is for guests alone. A frame that only crosses a bridge is not forwarded by
// IP, but passes here where br_netfilter is loaded: it leaves by the bridge it came from.
// The table is replaced as a whole, so that there is no moment without it.
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

// Each as a whole or not at all. Those of filter come first in their chains, so what
// other rules would drop is accepted before.
constexpr const char* kForwardRules = R"(*filter
:{chain} - [0:0]
-A {chain} -i {bridge} -j ACCEPT
-A {chain} -o {bridge} -j ACCEPT
-I FORWARD -j {chain}
COMMIT
)";
// In a table of its own, since it must come before what other networks accept.
constexpr const char* kGuardRules = R"(*mangle
:{chain} - [0:0]
-A {chain} ! -i {bridge} -o {bridge} -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A FORWARD -j {chain}
COMMIT
)";
// As `sources` of kFilterRules.
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

// A chain of ours and the rules that lead to it. Someone may have flushed those.
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
  step.look = iptables({table, "-S", chain}, program).arguments;
  return step;
}

std::string forwarding_table(const std::vector<std::string>& bridges) {
  return fmt::format(kForwardingGuardRules, fmt::arg("guard", kForwardingGuard),
                     fmt::arg("bridges", fmt::format("\"{}\"", fmt::join(bridges, "\", \""))));
}

// To be completed with the rules that lead to the chain, and COMMIT.
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

// Whatever forwards is let through, also where a former wick made no guard for it. The last
// network that has the guard removes it.
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
  // Each network has a rule of its own that leads to the chain, so that it can be removed.
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
    steps.push_back(table_step("filter", "inet", table, rules(kFilterRules)));
    // For the guests' sake alone: a kernel without nftables for bridges does without.
    steps.push_back(table_step("neighbours", "bridge", table, rules(kNeighbourRules)));
    std::get<RunCommand>(steps.back().make.front()).may_fail = true;
    steps.push_back(table_step("nat", "ip", table, rules(kNftNatRules)));
    return;
  }
  const auto add = [&](const char* name, const char* suffix, const char* in,
                       std::vector<std::string> from, const char* rules,
                       const char* program = "iptables") {
    steps.push_back(chain_step(network, name, table + suffix, in, std::move(from), rules, program));
  };
  add("sources", ".src", "mangle", {"INPUT", "FORWARD"}, kSourceRules);
  add("sources6", ".src", "mangle", {"INPUT", "FORWARD"}, kSourceRules6, kIp6tables);
  add("guard", "", "mangle", {"FORWARD"}, kGuardRules);
  add("forward", "", "filter", {"FORWARD"}, kForwardRules);
  if (network.dhcp) add("input", ".in", "filter", {"INPUT"}, kInputRules);
  add("nat", "", "nat", {"POSTROUTING"}, kNatRules);
}

// Forwarding comes last and goes first: it is never on without what bounds it.
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
  // Off means 1 to the kernel, for hosts take redirects and routers do not. A host that
  // took none before gets its 0 back.
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
      "--conf-file=",  // not the host's
      "--bind-interfaces",
      "--interface=" + network.name,
      "--except-interface=lo",
      "--pid-file=" + pid_path,
      "--dhcp-leasefile=" + dhcp_leases_path(network.name),
      fmt::format("--dhcp-range={},{},{},1h", net::ipv4_string(range.first),
                  net::ipv4_string(range.last), net::ipv4_string(network.address.mask())),
      "--dhcp-authoritative",
      "--no-ping",  // it would take three seconds of each first boot
      "--no-hosts",
      "--domain=" + network.domain,
      fmt::format("--local=/{}/", network.domain),
      "--domain-needed",
      fmt::format("--host-record=host.{},{}", network.domain, own),
      // A guest of that name would be every browser's proxy (CERT VU#598349).
      "--dhcp-name-match=set:wpad,wpad",
      "--dhcp-ignore-names=tag:wpad",
  };
  // No way out: no router.
  if (network.nat == HostNetwork::Nat::kNone) arguments.push_back("--dhcp-option=3");
  return {Kind::kDnsmasq,
          "dhcp",
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
      // Without a delay: a bridge would keep new guests waiting for 15 s.
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
                       value->may_lack ? fmt::format("[ ! -e {} ] || ", value->path) : "",
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
  mac.front() = 2;  // the same for every network, to be told from guests' at sight
  return net::to_text(mac);
}

}  // namespace wick::hostnet
