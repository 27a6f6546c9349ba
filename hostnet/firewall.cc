#include "hostnet/firewall.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/process.h"
#include "hostnet/plan.h"

namespace wick::hostnet {

namespace {

using Json = nlohmann::json;

// Returns true if the network needs a hook: the input hook for DHCP and DNS, or the forward hook
// for NAT.
bool matters(const HostNetwork& network, bool input) {
  return input ? network.dhcp : network.nat != HostNetwork::Nat::kNone;
}

std::string text_of(const Json& object, const char* key) {
  const auto value = object.is_object() ? object.find(key) : object.end();
  return value != object.end() && value->is_string() ? value->get<std::string>() : std::string();
}

// Returns the command that accepts the packets. For FORWARD it has a rule for the guests' packets
// and a rule for the replies; for INPUT it has a rule for DHCP and DNS.
std::string iptables_fix(const std::string& chain, const std::string& bridge) {
  if (chain == "INPUT")
    return fmt::format("iptables -I INPUT -i {} -p udp -m multiport --dports 53,67 -j ACCEPT",
                       bridge);
  return fmt::format(
      "iptables -I {0} -i {1} -j ACCEPT && iptables -I {0} -o {1} -m conntrack --ctstate "
      "RELATED,ESTABLISHED -j ACCEPT",
      chain, bridge);
}

std::string nft_fix(const std::string& chain, bool input, const std::string& bridge) {
  if (input)
    return fmt::format("nft 'insert rule {} iifname \"{}\" udp dport {{ 53, 67 }} accept'", chain,
                       bridge);
  return fmt::format(
      "nft 'insert rule {0} iifname \"{1}\" accept' && nft 'insert rule {0} oifname \"{1}\" ct "
      "state established,related accept'",
      chain, bridge);
}

std::string warning(const std::string& bridge, const std::string& chain, bool input,
                    const std::string& fix) {
  return fmt::format("{}: this host's firewall ({}) drops {}; {}", bridge, chain,
                     input ? "the guests' requests to the host, DHCP included, unless a rule "
                             "accepts them"
                           : "forwarded packets, so guests cannot reach other networks",
                     fix);
}

}  // namespace

std::vector<std::string> firewall_warnings(std::string_view ruleset, const HostNetwork& network) {
  const std::string& bridge = network.name;
  const Json json = Json::parse(ruleset, nullptr, false);
  const auto list = json.is_object() ? json.find("nftables") : json.end();
  if (list == json.end() || !list->is_array()) return {};
  struct Dropping {
    std::string table;
    std::string chain;
    bool input;
  };
  std::vector<Dropping> chains;
  std::map<std::string, bool> named;  // by table: true if a rule mentions the bridge
  const std::string quoted = fmt::format("\"{}\"", bridge);
  bool docker = false;
  bool firewalld = false;
  for (const Json& entry : *list) {
    if (!entry.is_object() || entry.empty()) continue;
    const std::string kind = entry.begin().key();
    const Json& object = entry.begin().value();
    const std::string name = text_of(object, kind == "table" ? "name" : "table");
    const std::string table = text_of(object, "family") + " " + name;
    if (name == table_name(bridge) || name == kForwardingGuard) continue;
    firewalld = firewalld || (kind == "table" && name == "firewalld");
    if (kind == "rule" && object.dump().find(quoted) != std::string::npos) named[table] = true;
    if (kind != "chain") continue;
    docker = docker || text_of(object, "name") == "DOCKER-USER";
    const std::string hook = text_of(object, "hook");
    const std::string family = text_of(object, "family");
    if (text_of(object, "policy") == "drop" && (hook == "forward" || hook == "input") &&
        (family == "ip" || family == "inet"))
      chains.push_back({table, text_of(object, "name"), hook == "input"});
  }
  std::vector<std::string> warnings;
  for (const auto& [table, chain, input] : chains) {
    if (named[table] || !matters(network, input)) continue;
    const bool iptables = table == "ip filter" && (chain == "FORWARD" || chain == "INPUT");
    const bool to_docker = iptables && !input && docker;
    const std::string place = fmt::format("{} {}", table, chain);
    warnings.push_back(warning(bridge, place, input,
                               iptables ? iptables_fix(to_docker ? "DOCKER-USER" : chain, bridge)
                                        : nft_fix(place, input, bridge)));
  }
  if (firewalld && !named["inet firewalld"])
    warnings.push_back(
        fmt::format("{}: firewalld may reject the guests' packets; firewall-cmd --zone=trusted "
                    "--add-interface={}",
                    bridge, bridge));
  return warnings;
}

std::vector<std::string> iptables_warnings(std::string_view rules, const HostNetwork& network) {
  const std::string& bridge = network.name;
  if (rules.find(fmt::format("o {} ", bridge)) != std::string_view::npos ||
      rules.find(fmt::format("i {} ", bridge)) != std::string_view::npos)
    return {};
  const bool docker = rules.find("-N DOCKER-USER\n") != std::string_view::npos;
  std::vector<std::string> warnings;
  for (const char* const chain : {"FORWARD", "INPUT"}) {
    if (rules.find(fmt::format("-P {} DROP\n", chain)) == std::string_view::npos) continue;
    const bool input = std::string_view(chain) == "INPUT";
    if (!matters(network, input)) continue;
    warnings.push_back(warning(bridge, fmt::format("iptables {}", chain), input,
                               iptables_fix(!input && docker ? "DOCKER-USER" : chain, bridge)));
  }
  return warnings;
}

std::vector<std::string> firewall_warnings(const HostNetwork& network) {
  std::vector<std::string> warnings;
  const std::vector<std::string> nft = {"nft", "-j", "list", "ruleset"};
  if (const auto ruleset = run_process(nft); ruleset && ruleset->status == 0)
    warnings = firewall_warnings(ruleset->output, network);
  // iptables-legacy is called only if legacy tables are in use, because it would load kernel
  // modules.
  std::ifstream tables("/proc/net/ip_tables_names");
  const std::vector<std::string> legacy = {"iptables-legacy", "-w", "-S"};
  for (std::string table; std::getline(tables, table);) {
    if (table != "filter") continue;
    if (const auto rules = run_process(legacy); rules && rules->status == 0)
      for (std::string& line : iptables_warnings(rules->output, network))
        warnings.push_back(std::move(line));
  }
  return warnings;
}

}  // namespace wick::hostnet
