// wick net down
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ranges>

#include "base/printable.h"
#include "cli/net/commands.h"
#include "hostnet/steps.h"

namespace wick::cli {

using Kind = hostnet::Step::Kind;

Result<int> net_down(const NetDown& wanted, hostnet::Executor& executor) {
  if (!wanted.dry_run) TRY(hostnet::require_root("down", wanted.name));
  const Fd lock = wanted.dry_run ? Fd() : TRY(hostnet::lock_networks());
  const auto network = TRY(hostnet::find_host_network(wanted.name));
  if (!network) {
    const hostnet::HostView host = TRY(hostnet::look_at_host());
    if (host.find(wanted.name) != nullptr)
      return with_hint(
          fail("{}: an interface of this name exists, but wick net did not make it", wanted.name),
          fmt::format("to remove it: ip link del dev {}", wanted.name));
    if (!wanted.dry_run) fmt::print("{} is not up\n", wanted.name);
    return 0;
  }
  if (wanted.dry_run) {
    const hostnet::HostView host = TRY(hostnet::look_at_host());
    const std::vector<hostnet::Step> steps =
        hostnet::plan(*network, hostnet::others_that_forward(network->name));
    for (const hostnet::Step& step : std::views::reverse(steps)) {
      if (step.kind != Kind::kFolder && network->find_made(step.name) == nullptr) continue;
      if (TRY(hostnet::presence(host, *network, step)) != hostnet::Presence::kOurs) continue;
      for (const hostnet::Action& action : step.undo) fmt::print("{}", hostnet::shell_line(action));
    }
    return 0;
  }
  const auto taps = hostnet::taps_of(*network, TRY(hostnet::look_at_host()));
  for (const hostnet::TapUser& user : hostnet::tap_users())
    if (std::ranges::find(taps, user.tap) != taps.end())
      spdlog::warn("{}: {} (process {}) uses it and loses its network", user.tap,
                   printable(user.machine.empty() ? user.program : user.machine), user.pid);
  TRY(hostnet::undo_all(*network, executor));
  return 0;
}

Result<int> execute(const NetDown& command) {
  set_verbosity(command.verbosity);
  hostnet::Executor executor;
  return net_down(command, executor);
}

}  // namespace wick::cli
