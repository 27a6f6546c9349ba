#include "vmm/network_card.h"

#include <spdlog/spdlog.h>

#include "net/tap.h"

namespace wick {

namespace {

Result<std::unique_ptr<net::Backend>> open_backend(const NetConfig& config) {
  return net::open_tap({.interface = config.interface,
                        .bridge = config.bridge,
                        .queues = config.queues,
                        .mtu = config.mtu});
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
                                                         const std::string& id) {
  std::unique_ptr<NetworkCard> card(new NetworkCard);
  card->backend_ = TRY(open_backend(config));
  std::vector<std::unique_ptr<virtio::VhostNet>> vhosts;
  if (config.vhost) vhosts = open_vhosts(*card->backend_, id);
  card->thread_ = TRY(LoopThread::start(id));
  card->virtio_ = TRY(virtio::Net::create(*card->backend_, card->thread_->loop(), *config.mac,
                                          config.mtu, id, std::move(vhosts)));
  spdlog::info("{}: {} on {}", id, net::to_text(*config.mac), card->backend_->name());
  return card;
}

NetworkCard::~NetworkCard() {
  virtio_.reset();
  if (thread_) thread_->stop();
}

}  // namespace wick
