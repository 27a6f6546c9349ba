#include "cli/net_apply.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <ranges>

#include "base/fd.h"
#include "base/printable.h"
#include "cli/net_address.h"
#include "cli/net_firewall.h"
#include "cli/net_host.h"
#include "cli/process.h"

namespace wick::cli {

namespace {

using net::HostNetwork;
using Kind = Step::Kind;
using Nat = HostNetwork::Nat;

constexpr unsigned kDefaultTaps = 8;

// --- What there is already -------------------------------------------------------------

enum class Presence { kAbsent, kOurs, kForeign };

// By its index; where wick ended before it could note that, by `is_like_ours`.
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

// Of what only root can ask for, by a command that fails where it is not there.
Result<Presence> presence_by(const HostNetwork& network, const Step& step,
                             const std::vector<std::string>& command) {
  const bool made = network.find_made(step.name) != nullptr;
  if (::geteuid() != 0) return made ? Presence::kOurs : Presence::kAbsent;
  if (TRY(run_process(command)).status != 0) return Presence::kAbsent;
  return made ? Presence::kOurs : Presence::kForeign;
}

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
    case Kind::kAddress:
      return if_ours(link != nullptr && link->up &&
                     std::ranges::find(link->addresses, network.address) != link->addresses.end());
    case Kind::kPort:
      return if_ours(link != nullptr && link->up && link->master == network.name);
    case Kind::kForwarding:
      return if_ours(host.forwarding);
    case Kind::kTable:
      return presence_by(network, step, {"nft", "list", "table", "ip", step.object});
    case Kind::kChain:
      return presence_by(network, step, {"iptables", "-w", "-t", step.table, "-S", step.object});
    case Kind::kDnsmasq:
      return if_ours(find_dnsmasq(dnsmasq_pid_path(network.name)) != 0);
  }
  return Presence::kAbsent;
}

Error foreign(const Step& step) {
  const char* const kind = step.kind == Kind::kTable   ? "a table of nftables"
                           : step.kind == Kind::kChain ? "a chain of iptables"
                                                       : "an interface";
  const std::string removal = shell_line(step.undo.back());
  return {
      0,
      fmt::format("{}: {} of that name is there already, and wick net did not make it", step.object,
                  kind),
      fmt::format("choose another name, or remove it: {}", removal.substr(0, removal.size() - 1))};
}

// --- What is wanted --------------------------------------------------------------------

std::string machine_id() {
  std::ifstream file("/etc/machine-id");
  std::string id;
  std::getline(file, id);
  return id;
}

Result<Nat> choose_nat() {
  const std::vector<std::string> ask = {"nft", "list", "tables"};
  const auto nft = find_program("nft");
  if (nft) {
    // A kernel may lack what the program is for.
    const auto answer = run_process(ask);
    if (::geteuid() != 0 || !answer || answer->status == 0) return Nat::kNftables;
  }
  if (find_program("iptables-restore")) return Nat::kIptables;
  if (nft) return Nat::kNftables;  // which then says what is wrong
  return with_hint(fail("NAT takes nft or iptables: neither is found"),
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
                       "choose another, or leave it to wick");
  }
  network.address = wanted.address ? *wanted.address : TRY(choose_address(host));
  network.mac = bridge_mac(machine_id(), wanted.name);
  network.nat = wanted.no_nat ? Nat::kNone : TRY(choose_nat());
  network.dhcp = !wanted.no_dhcp;
  if (wanted.domain) network.domain = *wanted.domain;
  if (wanted.user) TRY(set_taps(network, wanted));
  return network;
}

// What is up stays as it is, for those who use it; it may only get TAPs.
Result<HostNetwork> extended(HostNetwork network, const NetUp& wanted) {
  const auto differs = [&](const char* option, const std::string& is) {
    return with_hint(
        fail("{}: {} is up, with {}", option, network.name, is),
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

// --- Common to up and down -------------------------------------------------------------

Result<void> require_root(const char* command, const std::string& name) {
  if (::geteuid() == 0) return {};
  return with_hint(fail("wick net {}: only root may change the host's network", command),
                   fmt::format("sudo wick net {0} {1}, or look at what it would do: wick net {0} "
                               "{1} --dry-run",
                               command, name));
}

// One `wick net` at a time, of all networks: they choose addresses and share a sysctl.
Result<Fd> lock_networks() {
  std::error_code error;
  std::filesystem::create_directories(net::networks_folder(), error);
  const std::string path = net::networks_folder() + "/.lock";
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return fail_errno(errno, "{}: cannot open", path);
  while (::flock(fd.get(), LOCK_EX) < 0)
    if (errno != EINTR) return fail_errno(errno, "{}: cannot lock", path);
  return fd;
}

// Whether another network of wick's needs the host to forward.
bool others_forward(const std::string& name) {
  const auto names = net::host_network_names();
  return names && std::ranges::any_of(*names, [&](const std::string& other) {
           if (other == name) return false;
           const auto network = net::find_host_network(other);
           return network && *network && (*network)->find_made(net::kForwardingStep) != nullptr;
         });
}

HostNetwork::Made& entry_of(HostNetwork& network, const std::string& what) {
  const auto found = std::ranges::find(network.made, what, &HostNetwork::Made::what);
  return found != network.made.end() ? *found : network.made.emplace_back(what, 0);
}

uint32_t index_of(const HostView& host, const std::string& interface) {
  const HostLink* const link = host.find(interface);
  return link == nullptr ? 0 : link->index;
}

// Notes it before and, with its index, after.
Result<void> make(const Step& step, HostNetwork& network, Performer& performer) {
  if (!step.name.empty()) {
    entry_of(network, step.name).index = 0;
    TRY(net::save_host_network(network));
  }
  for (const Action& action : step.make) TRY(performer.perform(action));
  if (step.kind != Kind::kBridge && step.kind != Kind::kTap) return {};
  entry_of(network, step.name).index = index_of(TRY(look_at_host()), step.object);
  return net::save_host_network(network);
}

// Undoes one step that is noted, and forgets it.
Result<void> undo(const Step& step, HostNetwork& network, Presence now, Performer& performer) {
  const bool needed = step.kind == Kind::kForwarding && others_forward(network.name);
  if (now == Presence::kForeign)
    spdlog::warn("{}: left alone: it is not what wick net made", step.object);
  else if (now == Presence::kAbsent)
    spdlog::info("{}: already gone", step.object);
  else if (needed)
    spdlog::info("{}: stays for the other networks", step.object);
  else
    for (const Action& action : step.undo) TRY(performer.perform(action));
  std::erase_if(network.made, [&](const auto& made) { return made.what == step.name; });
  return net::save_host_network(network);
}

// All that is noted, the last first. Goes on where something cannot be undone.
Result<void> undo_all(HostNetwork network, Performer& performer) {
  const HostView host = TRY(look_at_host());
  Result<void> outcome;
  const std::vector<Step> steps = plan(network);
  for (const Step& step : std::views::reverse(steps)) {
    if (network.find_made(step.name) == nullptr) continue;
    const auto now = presence(host, network, step);
    const auto undone =
        now ? undo(step, network, *now, performer) : Result<void>(std::unexpected(now.error()));
    if (!undone && outcome) outcome = undone;
  }
  if (!outcome) return outcome;
  for (const Action& action : steps.front().undo) TRY(performer.perform(action));
  return {};
}

std::string summary(const HostNetwork& network) {
  std::string text = fmt::format("{} is up: {}", network.name, net::ipv4_string(network.address));
  if (network.nat != Nat::kNone)
    text += network.nat == Nat::kNftables ? ", NAT by nftables" : ", NAT by iptables";
  if (network.dhcp) text += fmt::format(", DHCP and names in .{} by dnsmasq", network.domain);
  if (!network.taps.empty())
    text += fmt::format(", {} TAPs for {}", network.taps.size(), printable(network.user));
  return text;
}

void warn_of_what_is_in_the_way(const HostNetwork& network) {
  if (network.nat != Nat::kIptables)
    for (const std::string& line : firewall_warnings(network.name)) spdlog::warn("{}", line);
  struct stat device {};
  const bool open_to_all = ::stat("/dev/net/tun", &device) == 0 && (device.st_mode & 0006) == 0006;
  // A group may be the mend of others.
  if (!network.taps.empty() && network.uid != 0 && !open_to_all && device.st_gid == 0)
    spdlog::warn("/dev/net/tun: {} cannot open it; chmod 666 /dev/net/tun, which is the usual mode",
                 printable(network.user));
}

Result<void> stop_dnsmasq(const std::string& pid_path) {
  const pid_t pid = find_dnsmasq(pid_path);
  if (pid == 0) return {};
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  // Still the same one?
  if (!process.valid() || find_dnsmasq(pid_path) != pid) return {};
  for (const int number : {SIGTERM, SIGKILL}) {
    constexpr int kPatienceMs = 5000;
    if (::syscall(SYS_pidfd_send_signal, process.get(), number, nullptr, 0) < 0 && errno != ESRCH)
      return fail_errno(errno, "dnsmasq, process {}: cannot stop it", pid);
    pollfd ended{process.get(), POLLIN, 0};
    if (::poll(&ended, 1, kPatienceMs) > 0) return {};
  }
  return fail("dnsmasq, process {}: does not end", pid);
}

Result<void> write_value(const WriteValue& action) {
  const Fd fd(::open(action.path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "{}: cannot open", action.path);
  if (::write(fd.get(), action.value.data(), action.value.size()) < 0)
    return fail_errno(errno, "{}: cannot write {}", action.path, action.value);
  return {};
}

// The lines of a program's stderr as one.
std::string one_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) text.replace(at, 1, "; ");
  return printable(text, true);
}

Result<void> run_command(const RunCommand& command) {
  const auto outcome = TRY(run_process(command.arguments, command.input));
  if (outcome.status == 0 || command.may_fail) return {};
  const std::string& program = command.arguments.front();
  const auto refusal = fail("{}: exit status {}: {}", shell_words(command.arguments),
                            outcome.status, one_line(outcome.errors));
  if (program == "dnsmasq" && outcome.errors.find("in use") != std::string::npos)
    return with_hint(refusal,
                     "another DNS or DHCP server has the port (ss -lnup): let it bind to its own "
                     "interfaces only, or use --no-dhcp");
  if (program == "nft" || program == "iptables-restore")
    return with_hint(refusal, "the kernel may lack it; --no-nat goes without");
  return refusal;
}

}  // namespace

Result<void> Performer::perform(const Action& action) {
  spdlog::debug("{}", printable(shell_line(action)));
  if (const auto* const value = std::get_if<WriteValue>(&action)) return write_value(*value);
  if (const auto* const stop = std::get_if<StopDnsmasq>(&action))
    return stop_dnsmasq(stop->pid_path);
  return run_command(std::get<RunCommand>(action));
}

Result<int> net_up(const NetUp& wanted, Performer& performer) {
  if (!wanted.dry_run) TRY(require_root("up", wanted.name));
  const Fd lock = wanted.dry_run ? Fd() : TRY(lock_networks());
  const auto existing = TRY(net::find_host_network(wanted.name));
  const HostView host = TRY(look_at_host());
  HostNetwork network = TRY(existing ? extended(*existing, wanted) : new_network(wanted, host));

  const std::vector<Step> steps = plan(network);
  std::vector<Step> missing;
  bool bridge_missing = false;
  for (const Step& step : steps) {
    Presence now = TRY(presence(host, network, step));
    if (now == Presence::kForeign) return std::unexpected(foreign(step));
    bridge_missing = bridge_missing || (step.kind == Kind::kBridge && now == Presence::kAbsent);
    // One that listens on a bridge that is gone hears nothing.
    const bool deaf = step.kind == Kind::kDnsmasq && now == Presence::kOurs && bridge_missing;
    if (now != Presence::kOurs || deaf) missing.push_back(step);
    if (deaf) missing.back().make.insert(missing.back().make.begin(), step.undo.front());
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
    // Turned on for another network: the last one that goes turns it off.
    if (network.nat != Nat::kNone && host.forwarding && others_forward(network.name))
      entry_of(network, net::kForwardingStep);
    TRY(net::save_host_network(network));
    for (const Step& step : missing) TRY(make(step, network, performer));
    return {};
  }();
  if (!made && !existing) {
    const auto undone = undo_all(network, performer);
    Error error = made.error();
    if (!undone) error.context += fmt::format(" (and then {})", undone.error().message());
    return std::unexpected(std::move(error));
  }
  if (!made) return std::unexpected(made.error());
  warn_of_what_is_in_the_way(network);
  fmt::print("{}\n", summary(network));
  return 0;
}

Result<int> net_down(const NetDown& wanted, Performer& performer) {
  if (!wanted.dry_run) TRY(require_root("down", wanted.name));
  const Fd lock = wanted.dry_run ? Fd() : TRY(lock_networks());
  const auto network = TRY(net::find_host_network(wanted.name));
  if (!network) {
    const HostView host = TRY(look_at_host());
    if (host.find(wanted.name) != nullptr)
      return with_hint(
          fail("{}: an interface of that name is there, but wick net did not make it", wanted.name),
          fmt::format("if it is to go: ip link del dev {}", wanted.name));
    if (!wanted.dry_run) fmt::print("{} is not up\n", wanted.name);
    return 0;
  }
  if (wanted.dry_run) {
    const HostView host = TRY(look_at_host());
    const std::vector<Step> steps = plan(*network);
    for (const Step& step : std::views::reverse(steps)) {
      if (step.kind != Kind::kFolder && network->find_made(step.name) == nullptr) continue;
      if (TRY(presence(host, *network, step)) != Presence::kOurs) continue;
      if (step.kind == Kind::kForwarding && others_forward(network->name)) continue;
      for (const Action& action : step.undo) fmt::print("{}", shell_line(action));
    }
    return 0;
  }
  for (const TapUser& user : tap_users())
    if (std::ranges::find(network->taps, user.tap) != network->taps.end())
      spdlog::warn("{}: {} (process {}) uses it, and loses its network", user.tap,
                   printable(user.machine.empty() ? user.program : user.machine), user.pid);
  TRY(undo_all(*network, performer));
  return 0;
}

Result<int> carry_out(const NetUp& command) {
  if (command.verbose) spdlog::set_level(spdlog::level::info);
  Performer performer;
  return net_up(command, performer);
}

Result<int> carry_out(const NetDown& command) {
  if (command.verbose) spdlog::set_level(spdlog::level::info);
  Performer performer;
  return net_down(command, performer);
}

}  // namespace wick::cli
