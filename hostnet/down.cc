// The command wick net down.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ranges>

#include "base/printable.h"
#include "hostnet/commands.h"
#include "hostnet/steps.h"

namespace wick::hostnet {

using Kind = Step::Kind;

Result<int> net_down(const NetDown& wanted, Executor& executor) {
  if (!wanted.dry_run) TRY(require_root("down", wanted.name));
  const Fd lock = wanted.dry_run ? Fd() : TRY(lock_networks());
  const auto network = TRY(find_host_network(wanted.name));
  if (!network) {
    const HostView host = TRY(look_at_host());
    if (host.find(wanted.name) != nullptr)
      return with_hint(
          fail("{}: an interface of this name exists, but wick net did not make it", wanted.name),
          fmt::format("to remove it: ip link del dev {}", wanted.name));
    if (!wanted.dry_run) fmt::print("{} is not up\n", wanted.name);
    return 0;
  }
  if (wanted.dry_run) {
    const HostView host = TRY(look_at_host());
    const std::vector<Step> steps = plan(*network, others_that_forward(network->name));
    for (const Step& step : std::views::reverse(steps)) {
      if (step.kind != Kind::kFolder && network->find_made(step.name) == nullptr) continue;
      if (TRY(presence(host, *network, step)) != Presence::kOurs) continue;
      for (const Action& action : step.undo) fmt::print("{}", shell_line(action));
    }
    return 0;
  }
  const auto taps = taps_of(*network, TRY(look_at_host()));
  for (const TapUser& user : tap_users())
    if (std::ranges::find(taps, user.tap) != taps.end())
      spdlog::warn("{}: {} (process {}) uses it and loses its network", user.tap,
                   printable(user.machine.empty() ? user.program : user.machine), user.pid);
  TRY(undo_all(*network, executor));
  return 0;
}

Result<int> execute(const NetDown& command) {
  set_verbosity(command.verbosity);
  Executor executor;
  return net_down(command, executor);
}

}  // namespace wick::hostnet
