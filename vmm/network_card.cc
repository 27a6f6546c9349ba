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

Result<void> NetworkCard::open_tap(const NetConfig& config) {
  auto chosen = TRY(hostnet::choose_tap(config.interface, config.bridge));
  tap_lock_ = std::move(chosen.lock);
  backend_ = TRY(net::open_tap({.interface = std::move(chosen.interface),
                                .bridge = std::move(chosen.bridge),
                                .queues = config.queues,
                                .mtu = config.mtu}));
  return {};
}

}  // namespace wick
