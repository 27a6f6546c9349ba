#include "vmm/network_card.h"

#include <sched.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "net/host_network.h"
#include "net/tap.h"
#include "net/user.h"

namespace wick {

namespace {

// Where a CPU is shared, the arrival of a packet must not take it from whoever sends:
// there would be a switch of threads, and an interrupt, for every packet. (A sixth of the
// throughput, ./dev bench net; with a CPU to itself the thread runs at once all the same.)
void let_senders_finish(pid_t thread) {
  const sched_param no_priority{};
  ::sched_setscheduler(thread, SCHED_BATCH, &no_priority);
}

// So for the threads of vhost-net that the calling thread has opened, whose name says so.
// From Linux 6.4 on they begin like that one; before, it takes CAP_SYS_NICE to change them.
void let_senders_finish_by_vhost() {
  const std::string name = fmt::format("vhost-{}", ::gettid());
  std::error_code none;
  for (std::filesystem::directory_iterator entry("/proc", none), end; entry != end;
       entry.increment(none)) {
    std::ifstream file(entry->path() / "comm");
    std::string comm;
    if (std::getline(file, comm) && comm == name)
      let_senders_finish(std::atoi(entry->path().filename().c_str()));
  }
}

// None, which a log line says, where the host does not have it.
std::vector<std::unique_ptr<virtio::VhostNet>> open_vhosts(const net::Backend& backend,
                                                           const std::string& id) {
  std::vector<std::unique_ptr<virtio::VhostNet>> vhosts;
  while (vhosts.size() < backend.queue_pairs()) {
    auto vhost = virtio::VhostNet::open();
    if (!vhost) {
      spdlog::warn("{}: vhost=on: {}; wick moves the packets itself", id, vhost.error().message());
      return {};
    }
    vhosts.push_back(*std::move(vhost));
  }
  return vhosts;
}

}  // namespace

Result<std::unique_ptr<NetworkCard>> NetworkCard::create(const NetConfig& config,
                                                         const std::string& id,
                                                         const std::string& machine) {
  std::unique_ptr<NetworkCard> card(new NetworkCard(*config.mac));
  if (auto opened = card->open_backend(config, id, machine); !opened) {
    opened.error().context.insert(0, id + ": ");
    return std::unexpected(std::move(opened).error());
  }
  card->thread_ = TRY(LoopThread::start(id));
  card->loop().post_and_wait([] { let_senders_finish(::gettid()); });
  spdlog::info("{}: {} on {}", id, net::to_text(card->mac_), card->backend_->name());
  if (config.device == NetConfig::Device::kVirtio) {
    std::vector<std::unique_ptr<virtio::VhostNet>> vhosts;
    if (config.vhost)
      card->loop().post_and_wait([&] {
        vhosts = open_vhosts(*card->backend_, id);
        if (!vhosts.empty()) let_senders_finish_by_vhost();
      });
    card->virtio_ = TRY(virtio::Net::create(*card->backend_, card->loop(), card->mac_, config.mtu,
                                            id, std::move(vhosts)));
  }
  return card;
}

NetworkCard::~NetworkCard() {
  virtio_.reset();
  if (thread_) thread_->stop();
}

Result<void> NetworkCard::open_backend(const NetConfig& config, const std::string& id,
                                       const std::string& machine) {
  if (config.kind == NetConfig::Kind::kTap) return open_tap(config);
  backend_ = TRY(net::open_user({.name = id, .host_name = machine, .forwards = config.forwards}));
  return {};
}

// On the bridge of wick net, the one that the user names or the usual one, the TAP is one
// of those that wait there for this user, or a new one.
Result<void> NetworkCard::open_tap(const NetConfig& config) {
  net::TapConfig tap{.interface = config.interface,
                     .bridge = config.bridge,
                     .queues = config.queues,
                     .mtu = config.mtu};
  if (tap.interface.empty()) {
    const std::string name = tap.bridge.empty() ? net::kDefaultNetwork : tap.bridge;
    std::optional<net::HostNetwork> network;
    if (net::is_network_name(name)) network = TRY(net::find_host_network(name));
    if (network && ::geteuid() != 0 && !network->taps.empty()) {
      auto claimed = TRY(net::claim_tap(*network));
      if (!claimed)
        return with_hint(
            fail("{}: all of its {} TAPs are in use", network->name, network->taps.size()),
            "end a machine, or make more: wick net up --user NAME --taps N");
      tap.interface = std::move(claimed->name);
      tap.bridge.clear();  // it is there
      tap_lock_ = std::move(claimed->lock);
    } else if (network) {
      tap.bridge = network->name;
    } else if (tap.bridge.empty()) {
      const auto others = net::host_network_names();
      const bool alone = !others || others->empty();
      spdlog::warn(
          "the TAP is on no bridge, since no network {} is up; {}", name,
          alone ? "wick net up makes it"
                : fmt::format("for {} write bridge={}", fmt::join(*others, ", "), others->front()));
    }
  } else {
    TRY(lock_named_tap(tap.interface));
  }
  backend_ = TRY(net::open_tap(tap));
  return {};
}

// If it is one of wick net's, which the kernel would give to a second machine as well.
Result<void> NetworkCard::lock_named_tap(const std::string& interface) {
  for (const std::string& name : net::host_network_names().value_or(std::vector<std::string>())) {
    const auto found = net::find_host_network(name);  // an error is of another network
    const auto network = found ? *found : std::nullopt;
    if (!network || std::ranges::find(network->taps, interface) == network->taps.end()) continue;
    auto claimed = TRY(net::claim_tap(*network, interface));
    if (!claimed)
      return with_hint(fail("{}: another machine uses it, or another card of this one", interface),
                       fmt::format("wick net status {} says which TAPs are free", name));
    tap_lock_ = std::move(claimed->lock);
  }
  return {};
}

}  // namespace wick
