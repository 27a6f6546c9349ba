#include "hostnet/tap_claim.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/printable.h"

namespace wick::hostnet {

namespace {

// Locks a TAP that belongs to a network; returns an empty descriptor for any other TAP.
Result<Fd> lock_named_tap(const std::string& interface) {
  for (const std::string& name : host_network_names().value_or(std::vector<std::string>())) {
    const auto found = find_host_network(name);  // a network that is damaged is skipped
    const auto network = found ? *found : std::nullopt;
    if (!network || std::ranges::find(network->taps, interface) == network->taps.end()) continue;
    auto claimed = TRY(claim_tap(*network, interface));
    if (!claimed)
      return with_hint(
          fail("{}: in use by another machine or by another card of this one", interface),
          fmt::format("wick net status {} shows which TAPs are free", name));
    return std::move(claimed->lock);
  }
  return Fd();
}

}  // namespace

Result<std::optional<ClaimedTap>> claim_tap(const HostNetwork& network, const std::string& wanted) {
  for (const std::string& tap : network.taps) {
    if (!wanted.empty() && tap != wanted) continue;
    if (network.find_made(tap_step(tap)) == nullptr) continue;
    const std::string path = tap_lock_path(network, tap);
    Fd lock(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    const int code = errno;
    if (!lock.valid())
      return with_hint(fail_errno(code, "{}: cannot open the lock of {}", path, tap),
                       code == EACCES ? fmt::format("the TAPs of {} belong to {}; wick net up NAME "
                                                    "--user USER makes another network",
                                                    network.name, printable(network.user))
                                      : fmt::format("wick net up {} repairs it", network.name));
    struct stat status {};
    if (::fstat(lock.get(), &status) < 0 || !S_ISREG(status.st_mode))
      return fail("{}: not a regular file", path);
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return ClaimedTap{tap, std::move(lock)};
    if (errno != EWOULDBLOCK) return fail_errno(errno, "{}: cannot lock", path);
  }
  return std::nullopt;
}

Result<ChosenTap> choose_tap(const std::string& interface, const std::string& bridge) {
  if (!interface.empty())
    return ChosenTap{
        .interface = interface, .bridge = bridge, .lock = TRY(lock_named_tap(interface))};
  const std::string name = bridge.empty() ? kDefaultNetwork : bridge;
  std::optional<HostNetwork> network;
  if (is_network_name(name)) network = TRY(find_host_network(name));
  if (!network) {
    if (!bridge.empty()) return ChosenTap{.interface = {}, .bridge = bridge, .lock = {}};
    const auto others = host_network_names();
    const bool alone = !others || others->empty();
    spdlog::warn(
        "the TAP is on no bridge, because no network {} is up; {}", name,
        alone ? "wick net up makes it"
              : fmt::format("for {} use bridge={}", fmt::join(*others, ", "), others->front()));
    return ChosenTap{};
  }
  if (::geteuid() == 0 || network->taps.empty())
    return ChosenTap{.interface = {}, .bridge = network->name, .lock = {}};
  auto claimed = TRY(claim_tap(*network));
  if (!claimed)
    return with_hint(fail("{}: all of its {} TAPs are in use", network->name, network->taps.size()),
                     "stop a machine, or make more TAPs: wick net up --user NAME --taps N");
  return ChosenTap{
      .interface = std::move(claimed->name), .bridge = {}, .lock = std::move(claimed->lock)};
}

}  // namespace wick::hostnet
