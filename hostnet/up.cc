// The command wick net up.
#include <pwd.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/printable.h"
#include "base/process.h"
#include "hostnet/address.h"
#include "hostnet/commands.h"
#include "hostnet/firewall.h"
#include "hostnet/steps.h"
#include "net/mac_address.h"

namespace wick::hostnet {

namespace {

using Kind = Step::Kind;
using Nat = HostNetwork::Nat;

Result<Nat> choose_nat() {
  const std::vector<std::string> ask = {"nft", "list", "tables"};
  const auto nft = find_program("nft");
  if (nft) {
    // The program may exist on a kernel without nftables.
    const auto answer = run_process(ask);
    if (::geteuid() != 0 || !answer || answer->status == 0) return Nat::kNftables;
  }
  if (find_program("iptables-restore")) return Nat::kIptables;
  if (nft) return Nat::kNftables;  // the later failure will have nft's own message
  return with_hint(fail("NAT needs nft or iptables, but neither is found"),
                   "install one (apt-get install nftables), or use --no-nat");
}

Result<void> set_taps(HostNetwork& network, const NetUp& wanted) {
  const passwd* const user = ::getpwnam(wanted.user->c_str());
  if (user == nullptr)
    return with_hint(fail("--user '{}': there is no such user", *wanted.user),
                     "check the name (getent passwd)");
  network.user = user->pw_name;
  network.uid = user->pw_uid;
  const size_t had = network.taps.size();
  const size_t count = std::max<size_t>(had, wanted.taps.value_or(had > 0 ? had : kDefaultTaps));
  for (size_t i = had; i < count; ++i)
    network.taps.push_back(fmt::format("{}-t{}", network.name, i));
  return {};
}

Result<HostNetwork> new_network(const NetUp& wanted, const HostView& host) {
  HostNetwork network;
  network.name = wanted.name;
  if (wanted.address) {
    if (const auto other = overlap(host, *wanted.address))
      return with_hint(fail("--address {}: overlaps {}", net::ipv4_string(*wanted.address), *other),
                       "choose another, or leave --address out");
  }
  network.address = wanted.address ? *wanted.address : TRY(choose_address(host));
  network.mac = bridge_mac(net::host_machine_id(), wanted.name);
  network.nat = wanted.no_nat ? Nat::kNone : TRY(choose_nat());
  network.dhcp = !wanted.no_dhcp;
  if (wanted.domain) network.domain = *wanted.domain;
  if (wanted.user) TRY(set_taps(network, wanted));
  return network;
}

// Returns the network with the TAPs that `wanted` requires and the network lacks. Nothing else of a
// network that is up is changed, because it may be in use.
Result<HostNetwork> extended(HostNetwork network, const NetUp& wanted) {
  const auto differs = [&](const char* option, const std::string& is) {
    return with_hint(
        fail("{}: {} is already up with {}", option, network.name, is),
        fmt::format("leave {} out, or start again: wick net down {}", option, network.name));
  };
  if (wanted.address && *wanted.address != network.address)
    return differs("--address", net::ipv4_string(network.address));
  if (wanted.domain && *wanted.domain != network.domain) return differs("--domain", network.domain);
  if (wanted.no_nat && network.nat != Nat::kNone) return differs("--no-nat", "NAT");
  if (wanted.no_dhcp && network.dhcp) return differs("--no-dhcp", "DHCP");
  if (!wanted.user) return network;
  if (!network.user.empty() && network.user != *wanted.user)
    return differs("--user", fmt::format("TAPs of {}", printable(network.user)));
  TRY(set_taps(network, wanted));
  return network;
}

std::string summary(const HostNetwork& network) {
  std::string text = fmt::format("{} is up: {}", network.name, net::ipv4_string(network.address));
  if (network.nat != Nat::kNone)
    text += network.nat == Nat::kNftables ? ", NAT by nftables" : ", NAT by iptables";
  if (network.dhcp) text += fmt::format(", DHCP and names in .{} by dnsmasq", network.domain);
  if (!network.taps.empty())
    text += fmt::format(", {} TAP{} for {}", network.taps.size(),
                        network.taps.size() == 1 ? "" : "s", printable(network.user));
  return text;
}

void warn_about_obstacles(const HostNetwork& network) {
  if (network.nat != Nat::kIptables)
    for (const std::string& line : firewall_warnings(network)) spdlog::warn("{}", line);
  struct stat device {};
  const bool open_to_all = ::stat("/dev/net/tun", &device) == 0 && (device.st_mode & 0006) == 0006;
  // A group other than root's may give the user access.
  if (!network.taps.empty() && network.uid != 0 && !open_to_all && device.st_gid == 0)
    spdlog::warn("/dev/net/tun: {} cannot open it; use the usual mode: chmod 666 /dev/net/tun",
                 printable(network.user));
}

}  // namespace

Result<int> net_up(const NetUp& wanted, Executor& executor) {
  if (!wanted.dry_run) TRY(require_root("up", wanted.name));
  ::umask(022);  // everyone may read the new folders
  const Fd lock = wanted.dry_run ? Fd() : TRY(lock_networks());
  const auto existing = TRY(find_host_network(wanted.name));
  const HostView host = TRY(look_at_host());
  HostNetwork network = TRY(existing ? extended(*existing, wanted) : new_network(wanted, host));

  // If another network has turned forwarding on, this network also records that step, because the
  // last network that goes down turns forwarding off.
  const auto others = others_that_forward(network.name);
  for (const char* const step : {kForwardingStep, kRedirectsStep})
    if (network.nat != Nat::kNone &&
        std::ranges::any_of(others, [&](const auto& o) { return o.find_made(step) != nullptr; }))
      entry_of(network, step);
  const std::vector<Step> steps = plan(network, others);
  std::vector<Step> missing;
  bool bridge_missing = false;
  for (const Step& step : steps) {
    const Presence now = TRY(presence(host, network, step));
    if (now == Presence::kForeign) return std::unexpected(foreign(step));
    if (now == Presence::kOurs) spdlog::info("{}: already exists", step.object);
    if (now == Presence::kOurs) record_index(host, step, network);
    bridge_missing = bridge_missing || (step.kind == Kind::kBridge && now == Presence::kAbsent);
    // A dnsmasq whose bridge is gone must be restarted to listen on the new bridge.
    const bool restart = step.kind == Kind::kDnsmasq && now == Presence::kOurs && bridge_missing;
    if (now != Presence::kOurs || restart) missing.push_back(step);
    if (restart) missing.back().make.insert(missing.back().make.begin(), step.undo.front());
  }
  if (wanted.dry_run) {
    for (const Step& step : missing)
      for (const Action& action : step.make) fmt::print("{}", shell_line(action));
    return 0;
  }
  for (const Step& step : missing)
    for (const Action& action : step.make)
      if (const auto* const command = std::get_if<RunCommand>(&action))
        TRY(find_program(command->arguments.front()));

  const auto made = [&]() -> Result<void> {
    TRY(save_host_network(network));
    for (const Step& step : missing) TRY(make(step, network, executor));
    return {};
  }();
  if (!made && !existing) {
    const auto undone = undo_all(network, executor);
    Error error = made.error();
    if (!undone) error.context += fmt::format(" (and then {})", undone.error().message());
    return std::unexpected(std::move(error));
  }
  if (!made) return std::unexpected(made.error());
  warn_about_obstacles(network);
  fmt::print("{}\n", summary(network));
  return 0;
}

void set_verbosity(unsigned verbosity) {
  spdlog::set_level(verbosity > 1   ? spdlog::level::debug
                    : verbosity > 0 ? spdlog::level::info
                                    : spdlog::level::warn);
}

Result<int> execute(const NetUp& command) {
  set_verbosity(command.verbosity);
  Executor executor;
  return net_up(command, executor);
}

}  // namespace wick::hostnet
