#include "hostnet/steps.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>

#include <algorithm>
#include <ranges>

#include "base/process.h"
#include "net/ipv6_sysctls.h"

namespace wick::hostnet {

namespace {

using Kind = Step::Kind;

template <typename F>
Presence presence_of_link(const HostView& host, const HostNetwork& network, const Step& step,
                          F is_like_ours) {
  const HostLink* const link = host.find(step.object);
  const HostNetwork::Made* const made = network.find_made(step.name);
  if (link == nullptr) return Presence::kAbsent;
  if (made == nullptr) return Presence::kForeign;
  const bool ours = made->index != 0 ? link->index == made->index : is_like_ours(*link);
  return ours ? Presence::kOurs : Presence::kForeign;
}

// Returns whether a table or chain exists. The query command fails if the table or chain does not
// exist; only root can run the command.
Result<Presence> presence_of_rules(const HostView& host, const HostNetwork& network,
                                   const Step& step) {
  const std::vector<std::string>& command = step.query;
  const bool made = network.find_made(step.name) != nullptr;
  // The guard is not needed if somebody else has turned forwarding on, and ip6tables rules are
  // not needed on a kernel without IPv6.
  const bool forwarding_is_ours = !host.forwarding || network.find_made(kForwardingStep) != nullptr;
  if (!made && step.name == kForwardingGuardStep && !forwarding_is_ours) return Presence::kOurs;
  if (!made && command.front() == kIp6tables && ::access("/proc/sys/net/ipv6", F_OK) < 0)
    return Presence::kOurs;
  if (::geteuid() != 0) return made ? Presence::kOurs : Presence::kAbsent;
  const auto answer = TRY(run_process(command));
  // A shared object that another network has made must be extended for this network.
  if (answer.status == 0)
    return made ? Presence::kOurs : step.shared ? Presence::kAbsent : Presence::kForeign;
  // iptables exits with 1 ("other errors", iptables(8)); its messages vary by version.
  const bool absent = step.kind == Kind::kChain
                          ? answer.status == 1
                          : answer.errors.find("No such file") != std::string::npos;
  if (absent) return Presence::kAbsent;
  return fail("{}: {}", shell_words(command), one_line(answer.errors));
}

// Undoes one recorded step and removes its record.
Result<void> undo(const Step& step, HostNetwork& network, Presence now, Executor& executor) {
  if (now == Presence::kForeign)
    spdlog::warn("{}: not removed, because wick net did not make it", step.object);
  else if (now == Presence::kAbsent)
    spdlog::info("{}: already gone", step.object);
  else if (step.undo.empty())
    spdlog::info("{}: kept, because other networks use it", step.object);
  else
    for (const Action& action : step.undo) TRY(executor.execute(action));
  std::erase_if(network.made, [&](const auto& made) { return made.what == step.name; });
  return save_host_network(network);
}

}  // namespace

Result<Presence> presence(const HostView& host, const HostNetwork& network, const Step& step) {
  const auto if_ours = [](bool ours) { return ours ? Presence::kOurs : Presence::kAbsent; };
  const HostLink* const link = host.find(step.object);
  switch (step.kind) {
    case Kind::kFolder:
    case Kind::kLock:
      return if_ours(::access(step.object.c_str(), F_OK) == 0);
    case Kind::kBridge:
      return presence_of_link(host, network, step, [&](const HostLink& bridge) {
        return bridge.kind == "bridge" && bridge.mac == network.mac;
      });
    case Kind::kTap:
      return presence_of_link(host, network, step, [&](const HostLink& tap) {
        return tap.kind == "tun" &&
               (tap.tap_owner == network.user || tap.tap_owner == fmt::format("{}", network.uid));
      });
    case Kind::kSysctls:
      return if_ours(link != nullptr &&
                     std::ranges::all_of(net::ipv6_sysctls(step.object), net::is_off));
    case Kind::kAddress:
      return if_ours(link != nullptr && link->up &&
                     std::ranges::find(link->addresses, network.address) != link->addresses.end());
    case Kind::kPort:
      return if_ours(link != nullptr && link->up && link->master == network.name);
    case Kind::kRedirects:  // the 0 must be recorded before forwarding changes it
      return if_ours(network.find_made(step.name) != nullptr || host.forwarding ||
                     !net::is_off(step.object));
    case Kind::kForwarding:
      return if_ours(host.forwarding);
    case Kind::kTable:
    case Kind::kChain:
      return presence_of_rules(host, network, step);
    case Kind::kDnsmasq:
      return if_ours(find_dnsmasq(network.name) != 0);
  }
  return Presence::kAbsent;
}

Error foreign(const Step& step) {
  const char* const kind = step.kind == Kind::kTable   ? "a table of nftables"
                           : step.kind == Kind::kChain ? "a chain of iptables"
                                                       : "an interface";
  const std::string removal = shell_line(step.undo.back());
  return {0,
          fmt::format("{}: {} of this name already exists, and wick net did not make it",
                      step.object, kind),
          fmt::format("{}remove it: {}",
                      step.object == kForwardingGuard ? "" : "choose another name, or ",
                      removal.substr(0, removal.size() - 1))};
}

HostNetwork::Made& entry_of(HostNetwork& network, const std::string& what) {
  const auto found = std::ranges::find(network.made, what, &HostNetwork::Made::what);
  return found != network.made.end() ? *found : network.made.emplace_back(what, 0);
}

void record_index(const HostView& host, const Step& step, HostNetwork& network) {
  if (step.kind != Kind::kBridge && step.kind != Kind::kTap) return;
  const HostLink* const link = host.find(step.object);
  entry_of(network, step.name).index = link == nullptr ? 0 : link->index;
}

Result<void> make(const Step& step, HostNetwork& network, Executor& executor) {
  if (!step.name.empty()) {
    entry_of(network, step.name).index = 0;
    TRY(save_host_network(network));
  }
  for (const Action& action : step.make) TRY(executor.execute(action));
  if (step.kind != Kind::kBridge && step.kind != Kind::kTap) return {};
  record_index(TRY(look_at_host()), step, network);
  return save_host_network(network);
}

Result<void> undo_all(HostNetwork network, Executor& executor) {
  const HostView host = TRY(look_at_host());
  Result<void> outcome;
  const std::vector<Step> steps = plan(network, others_that_forward(network.name));
  for (const Step& step : std::views::reverse(steps)) {
    if (network.find_made(step.name) == nullptr) continue;
    const auto now = presence(host, network, step);
    const auto undone =
        now ? undo(step, network, *now, executor) : Result<void>(std::unexpected(now.error()));
    if (!undone && outcome) outcome = undone;
  }
  if (!outcome) return outcome;
  for (const Action& action : steps.front().undo) TRY(executor.execute(action));
  return {};
}

std::vector<HostNetwork> others_that_forward(const std::string& name) {
  std::vector<HostNetwork> others;
  const auto names = host_network_names();
  if (!names) return others;
  for (const std::string& other : *names) {
    auto network = find_host_network(other);
    if (other != name && network && *network && (*network)->find_made(kForwardingStep) != nullptr)
      others.push_back(**std::move(network));
  }
  return others;
}

Result<void> require_root(const char* command, const std::string& name) {
  if (::geteuid() == 0) return {};
  return with_hint(fail("wick net {}: only root may change the host's network", command),
                   fmt::format("sudo wick net {0} {1}, or see what it would do: wick net {0} "
                               "{1} --dry-run",
                               command, name));
}

Result<Fd> lock_networks() {
  TRY(make_networks_folder());
  const std::string path = networks_folder() + "/.lock";
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return fail_errno(errno, "{}: cannot open", path);
  while (::flock(fd.get(), LOCK_EX) < 0)
    if (errno != EINTR) return fail_errno(errno, "{}: cannot lock", path);
  return fd;
}

}  // namespace wick::hostnet
