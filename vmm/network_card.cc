#include "vmm/network_card.h"

#include <sched.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "hostnet/tap_claim.h"
#include "net/tap.h"
#include "net/user.h"

namespace wick::vmm {

namespace {

// Sets SCHED_BATCH, with which a waking thread does not preempt other threads. With the default
// policy, on a shared CPU, the card's thread would preempt the sender at each packet; the context
// switch and the interrupt per packet cost a sixth of the throughput (./dev bench net). On an idle
// CPU a thread with SCHED_BATCH still runs at once.
void set_batch_scheduling(pid_t thread) {
  const sched_param no_priority{};
  ::sched_setscheduler(thread, SCHED_BATCH, &no_priority);
}

// Sets SCHED_BATCH for the vhost-net threads that belong to the calling thread; their name contains
// its thread id. Since Linux 6.4 these threads inherit the policy from the caller; on older kernels
// this change needs CAP_SYS_NICE.
void set_batch_scheduling_of_vhost() {
  const std::string name = fmt::format("vhost-{}", ::gettid());
  std::error_code none;
  for (std::filesystem::directory_iterator entry("/proc", none), end; entry != end;
       entry.increment(none)) {
    std::ifstream file(entry->path() / "comm");
    std::string comm;
    if (std::getline(file, comm) && comm == name)
      set_batch_scheduling(std::atoi(entry->path().filename().c_str()));
  }
}

// Opens vhost-net once for each queue pair. If the host does not support it, logs a warning and
// returns an empty list.
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
  std::unique_ptr<NetworkCard> card(new NetworkCard(config, id));
  if (auto opened = card->open_backend(config, id, machine); !opened) {
    opened.error().context.insert(0, id + ": ");
    return std::unexpected(std::move(opened).error());
  }
  card->thread_ = TRY(LoopThread::start(id));
  card->loop().call([] { set_batch_scheduling(::gettid()); });
  spdlog::info("{}: {} on {}", id, net::to_text(card->mac_), card->backend_->name());
  if (config.device == NetConfig::Device::kVirtio) {
    std::vector<std::unique_ptr<virtio::VhostNet>> vhosts;
    if (config.vhost)
      card->loop().call([&] {
        vhosts = open_vhosts(*card->backend_, id);
        if (!vhosts.empty()) set_batch_scheduling_of_vhost();
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
  backend_ = std::make_unique<net::Cable>(
      TRY(net::open_user({.name = id, .host_name = machine, .forwards = config.forwards})));
  return {};
}

Result<void> NetworkCard::open_tap(const NetConfig& config) {
  auto chosen = TRY(hostnet::choose_tap(config.interface, config.bridge));
  tap_lock_ = std::move(chosen.lock);
  backend_ =
      std::make_unique<net::Cable>(TRY(net::open_tap({.interface = std::move(chosen.interface),
                                                      .bridge = std::move(chosen.bridge),
                                                      .queues = config.queues,
                                                      .mtu = config.mtu})));
  return {};
}

void NetworkCard::pause() {
  for (int round = 0; round < kRoundsOfAPause; ++round) loop().call([] {});
  loop().call([this] {
    backend_->hold(true);
    if (virtio_) virtio_->hold_vhost(true);
  });
}

void NetworkCard::resume() {
  loop().call([this] {
    if (virtio_) virtio_->hold_vhost(!backend_->plugged());
    backend_->hold(false);
  });
}

void NetworkCard::set_link(bool up) {
  loop().call([&] {
    if (virtio_) virtio_->hold_vhost(!up || backend_->held());
    backend_->plug(up);
  });
}

CardInfo NetworkCard::info() {
  CardInfo info{.id = id_,
                .kind = config_.kind,
                .device = config_.device,
                .host_name = config_.kind == NetConfig::Kind::kTap ? backend_->name() : "",
                .mac = mac_,
                .vhost = config_.vhost};
  loop().call([&] {
    info.link_up = backend_->link_up();
    if (!virtio_) return;
    const virtio::NetSettings& settings = virtio_->settings();
    info.mac = settings.mac;
    info.promiscuous = settings.promiscuous;
    info.all_multicast = settings.all_multicast;
    info.unicast = settings.unicast;
    info.multicast = settings.multicast;
    info.vlans = settings.vlan_ids();
  });
  return info;
}

std::string NetworkCard::connections() {
  return loop().call([this] { return backend_->connections(); });
}

Result<void> NetworkCard::forward(const net::HostForward& wanted, bool add) {
  return loop().call([&] { return backend_->forward(wanted, add); });
}

}  // namespace wick::vmm
