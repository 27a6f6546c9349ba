#include "cli/net_plan.h"

#include <fmt/format.h>

#include "cli/net_address.h"
#include "cli/net_host.h"
#include "cli/process.h"
#include "net/dhcp_leases.h"
#include "net/ipv6_sysctls.h"
#include "net/mac_address.h"

namespace wick::cli {

namespace {

using net::HostNetwork;
using Kind = Step::Kind;

Action run(std::vector<std::string> arguments, std::string input = {}) {
  return RunCommand{std::move(arguments), std::move(input)};
}

// The host drops what comes from elsewhere to the guests unless they asked for it, or
// the host forwards a port to them: so networks with NAT are everywhere.
constexpr const char* kNftRules = R"(table ip {table} {{
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname "{bridge}" accept
    oifname "{bridge}" ct state established,related accept
    oifname "{bridge}" ct status dnat accept
    oifname "{bridge}" drop
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr {subnet} oifname != "{bridge}" masquerade
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

// A chain of ours and the rule that leads to it. Someone may have flushed that.
Step chain_step(const HostNetwork& network, const char* name, const std::string& chain,
                const char* table, const char* from, const char* rules) {
  const auto iptables = [&](std::vector<std::string> arguments, bool may_fail = false) {
    arguments.insert(arguments.begin(), {"iptables", "-w", "-t", table});
    return RunCommand{std::move(arguments), {}, may_fail};
  };
  return {
      Kind::kChain,
      name,
      chain,
      {run({"iptables-restore", "-w", "--noflush"},
           fmt::format(fmt::runtime(rules), fmt::arg("chain", chain),
                       fmt::arg("bridge", network.name), fmt::arg("subnet", subnet_of(network))))},
      {iptables({"-D", from, "-j", chain}, true), iptables({"-F", chain}), iptables({"-X", chain})},
      table};
}

void add_nat(std::vector<Step>& steps, const HostNetwork& network) {
  if (network.nat == HostNetwork::Nat::kNone) return;
  steps.push_back({Kind::kForwarding,
                   net::kForwardingStep,
                   kForwardingPath,
                   {WriteValue{kForwardingPath, "1"}},
                   {WriteValue{kForwardingPath, "0"}}});
  const std::string table = table_name(network.name);
  if (network.nat == HostNetwork::Nat::kNftables) {
    steps.push_back({Kind::kTable,
                     "nat",
                     table,
                     {run({"nft", "-f", "-"}, fmt::format(kNftRules, fmt::arg("table", table),
                                                          fmt::arg("bridge", network.name),
                                                          fmt::arg("subnet", subnet_of(network))))},
                     {run({"nft", "delete", "table", "ip", table})}});
    return;
  }
  steps.push_back(chain_step(network, "guard", table, "mangle", "FORWARD", kGuardRules));
  steps.push_back(chain_step(network, "forward", table, "filter", "FORWARD", kForwardRules));
  if (network.dhcp)
    steps.push_back(chain_step(network, "input", table + ".in", "filter", "INPUT", kInputRules));
  steps.push_back(chain_step(network, "nat", table, "nat", "POSTROUTING", kNatRules));
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
      "--dhcp-leasefile=" + net::dhcp_leases_path(network.name),
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
          {StopDnsmasq{pid_path}}};
}

void add_tap(std::vector<Step>& steps, const HostNetwork& network, const std::string& tap) {
  const std::string lock = net::tap_lock_path(network, tap);
  steps.push_back({Kind::kLock,
                   "",
                   lock,
                   {run({"install", "-m", "600", "-o", network.user, "/dev/null", lock})}});
  steps.push_back({Kind::kTap,
                   net::tap_step(tap),
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

std::vector<Step> plan(const HostNetwork& network) {
  const std::string& bridge = network.name;
  const std::string folder = net::network_folder(network.name);
  std::vector<Step> steps = {
      {Kind::kFolder, "", folder, {run({"mkdir", "-p", folder})}, {run({"rm", "-r", folder})}},
      // Without a delay: a bridge would keep new guests waiting for 15 s.
      {Kind::kBridge,
       net::kBridgeStep,
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
  add_nat(steps, network);
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
    return fmt::format("kill \"$(cat {})\"\n", shell_words({{stop->pid_path}}));
  const auto& command = std::get<RunCommand>(action);
  const std::string line = shell_words(command.arguments);
  if (command.input.empty()) return line + (command.may_fail ? " || true\n" : "\n");
  return fmt::format("{} <<'END'\n{}END\n", line, command.input);
}

std::string table_name(const std::string& network) { return "wick_" + network; }

std::string dnsmasq_pid_path(const std::string& network) {
  return net::network_folder(network) + "/dnsmasq.pid";
}

std::string bridge_mac(const std::string& machine_id, const std::string& network) {
  net::MacAddress mac = net::derive_mac(fmt::format("{}/{}", machine_id, network));
  mac.front() = 2;  // the same for every network, to be told from guests' at sight
  return net::to_text(mac);
}

}  // namespace wick::cli
