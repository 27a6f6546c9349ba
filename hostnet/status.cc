// The commands wick net status and wick net hosts.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/printable.h"
#include "hostnet/commands.h"
#include "hostnet/host_view.h"
#include "hostnet/leases.h"
#include "hostnet/plan.h"

namespace wick::hostnet {

namespace {

using Json = nlohmann::ordered_json;

// A network and its current state.
struct Seen {
  HostNetwork network;
  bool bridge = false;
  pid_t dnsmasq = 0;
  std::vector<DhcpLease> leases;
};

Result<std::vector<std::string>> names_of(const std::optional<std::string>& name) {
  if (name) return std::vector<std::string>{*name};
  return host_network_names();
}

Result<std::vector<HostNetwork>> networks_of(const std::optional<std::string>& wanted) {
  std::vector<HostNetwork> networks;
  for (const std::string& name : TRY(names_of(wanted)))
    if (auto network = TRY(find_host_network(name))) networks.push_back(*std::move(network));
  return networks;
}

Seen look(const HostNetwork& network, const HostView& host) {
  Seen seen;
  seen.network = network;
  const HostLink* const bridge = host.find(network.name);
  const HostNetwork::Made* const made = network.find_made(kBridgeStep);
  seen.bridge = bridge != nullptr && made != nullptr && bridge->index == made->index;
  if (network.dhcp) seen.dnsmasq = find_dnsmasq(network.name);
  if (auto leases = read_dhcp_leases(network.name)) seen.leases = *std::move(leases);
  return seen;
}

// Returns the machine or other program that uses the TAP; empty: none.
std::string name_of(const std::vector<TapUser>& users, const std::string& tap) {
  const auto user = std::ranges::find(users, tap, &TapUser::tap);
  if (user == users.end()) return {};
  return fmt::format("{} (process {})",
                     printable(user->machine.empty() ? user->program : user->machine), user->pid);
}

std::string local_time(int64_t seconds) {
  if (seconds == 0) return "for ever";
  const std::time_t when = seconds;
  std::tm parts{};
  std::array<char, 64> text{};
  if (::localtime_r(&when, &parts) == nullptr ||
      std::strftime(text.data(), text.size(), "until %F %T", &parts) == 0)
    return "until some day";
  return text.data();
}

std::string human(const Seen& seen, const std::vector<TapUser>& users, const HostView& host) {
  const HostNetwork& network = seen.network;
  std::string text = fmt::format("{}: {}\n", network.name, net::ipv4_string(network.address));
  if (!seen.bridge)
    text += fmt::format("  bridge  gone; wick net up {} repairs it\n", network.name);
  constexpr const char* kNat[] = {"none", "by nftables, table ip ", "by iptables, chain "};
  const bool nat = network.nat != HostNetwork::Nat::kNone;
  text += fmt::format(
      "  NAT     {}{}{}\n", kNat[static_cast<size_t>(network.nat)],
      nat ? table_name(network.name) : "",
      nat && !host.forwarding
          ? fmt::format("; but the host does not forward: wick net up {} repairs it", network.name)
          : "");
  if (!network.dhcp)
    text += "  DHCP    none\n";
  else if (seen.dnsmasq == 0)
    text += fmt::format("  DHCP    dnsmasq is gone; wick net up {} repairs it\n", network.name);
  else
    text +=
        fmt::format("  DHCP    dnsmasq, process {}; names in .{}\n", seen.dnsmasq, network.domain);
  const auto taps = taps_of(network, host);
  if (!taps.empty())
    text += network.taps.empty() ? "  TAPs\n"
                                 : fmt::format("  TAPs    of {}\n", printable(network.user));
  for (const std::string& tap : taps) {
    const std::string user = name_of(users, tap);
    text += fmt::format("    {:<15}  {}\n", tap,
                        host.find(tap) == nullptr ? "gone"
                        : user.empty()            ? "free"
                                                  : user);
  }
  if (!seen.leases.empty()) text += "  leases\n";
  for (const DhcpLease& lease : seen.leases)
    text += fmt::format("    {:<15}  {}  {}  {}\n", net::ipv4_string(lease.address),
                        printable(lease.mac), local_time(lease.expires),
                        lease.name.empty() ? "(no name)" : printable(lease.name));
  return text;
}

Json json(const Seen& seen, const std::vector<TapUser>& users, const HostView& host) {
  const HostNetwork& network = seen.network;
  constexpr const char* kNat[] = {"none", "nftables", "iptables"};
  Json object = {{"name", network.name},
                 {"bridge", seen.bridge},
                 {"address", net::ipv4_string(network.address)},
                 {"nat", kNat[static_cast<size_t>(network.nat)]},
                 {"forwarding", host.forwarding},
                 {"dhcp", nullptr},
                 {"user", network.user.empty() ? Json() : Json(network.user)},
                 {"taps", Json::array()},
                 {"leases", Json::array()}};
  if (network.dhcp)
    object["dhcp"] = {{"pid", seen.dnsmasq == 0 ? Json() : Json(seen.dnsmasq)},
                      {"domain", network.domain}};
  for (const std::string& tap : taps_of(network, host)) {
    const auto user = std::ranges::find(users, tap, &TapUser::tap);
    const bool used = user != users.end();
    object["taps"].push_back(
        {{"name", tap},
         {"there", host.find(tap) != nullptr},
         {"pid", used ? Json(user->pid) : Json()},
         {"program", used ? Json(user->program) : Json()},
         {"machine", used && !user->machine.empty() ? Json(user->machine) : Json()}});
  }
  for (const DhcpLease& lease : seen.leases)
    object["leases"].push_back({{"address", net::ipv4_string(lease.address)},
                                {"mac", lease.mac},
                                {"name", lease.name.empty() ? Json() : Json(lease.name)},
                                {"expires", lease.expires == 0 ? Json() : Json(lease.expires)}});
  return object;
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

}  // namespace

Result<int> execute(const NetStatus& command) {
  const auto networks = TRY(networks_of(command.name));
  Json list = Json::array();
  std::string text;
  if (!networks.empty()) {
    const HostView host = TRY(look_at_host());
    const auto users = tap_users();
    for (const HostNetwork& network : networks) {
      const Seen seen = look(network, host);
      if (command.json)
        list.push_back(json(seen, users, host));
      else
        text += human(seen, users, host);
    }
  } else {
    text = command.name ? fmt::format("{} is not up\n", *command.name) : "no network is up\n";
  }
  if (command.json) text = list.dump(2, ' ', true, Json::error_handler_t::replace) + '\n';
  fmt::print("{}", text);
  return networks.empty() ? 1 : 0;
}

Result<int> execute(const NetHosts& command) {
  const auto networks = TRY(networks_of(command.name));
  if (networks.empty() && command.name)
    return with_hint(fail("{} is not up", *command.name),
                     fmt::format("make it: wick net up {}", *command.name));
  for (const HostNetwork& network : networks)
    fmt::print("{}", hosts_lines(TRY(read_dhcp_leases(network.name)), network.domain, host_name()));
  return 0;
}

}  // namespace wick::hostnet
