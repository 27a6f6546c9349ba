// One network card of the machine: the host's network, the virtio device over it
// and the loop that both belong to, put together and taken apart in the right order.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "net/backend.h"
#include "virtio/net.h"
#include "vmm/config.h"

namespace wick {

class NetworkCard {
 public:
  // `config` has an address; `id`, as "net0", names the thread and messages.
  static Result<std::unique_ptr<NetworkCard>> create(const NetConfig& config,
                                                     const std::string& id);
  ~NetworkCard();

  virtio::VirtioDevice* virtio() { return virtio_.get(); }

 private:
  NetworkCard() = default;

  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<net::Backend> backend_;
  std::unique_ptr<virtio::Net> virtio_;
};

}  // namespace wick
