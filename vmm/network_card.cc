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

}  // namespace

Result<std::unique_ptr<NetworkCard>> NetworkCard::create(const NetConfig& config,
                                                         const std::string& id) {
  std::unique_ptr<NetworkCard> card(new NetworkCard);
  card->backend_ = TRY(open_backend(config));
  card->thread_ = TRY(LoopThread::start(id));
  card->virtio_ =
      TRY(virtio::Net::create(*card->backend_, card->thread_->loop(), *config.mac, config.mtu, id));
  spdlog::info("{}: {} on {}", id, net::to_text(*config.mac), card->backend_->name());
  return card;
}

NetworkCard::~NetworkCard() {
  virtio_.reset();
  if (thread_) thread_->stop();
}

}  // namespace wick
