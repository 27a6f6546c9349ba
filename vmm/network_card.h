// One network card of the machine: the host's network and the loop that it belongs
// to, and over them the virtio device, or the e1000 that the board makes.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"
#include "net/backend.h"
#include "virtio/net.h"
#include "vmm/config.h"

namespace wick {

class NetworkCard {
 public:
  // `config` has an address; `id`, as "net0", names the thread and messages;
  // `machine` is the machine's name.
  static Result<std::unique_ptr<NetworkCard>> create(const NetConfig& config, const std::string& id,
                                                     const std::string& machine);
  ~NetworkCard();

  virtio::VirtioDevice* virtio() { return virtio_.get(); }  // nullptr: it is to be an e1000
  net::Backend& backend() { return *backend_; }
  EventLoop& loop() { return thread_->loop(); }
  const net::MacAddress& mac() const { return mac_; }

 private:
  explicit NetworkCard(const net::MacAddress& mac) : mac_(mac) {}
  Result<void> open_backend(const NetConfig& config, const std::string& id,
                            const std::string& machine);
  Result<void> open_tap(const NetConfig& config);

  const net::MacAddress mac_;
  Fd tap_lock_;  // of one of wick net's TAPs
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<net::Backend> backend_;
  std::unique_ptr<virtio::Net> virtio_;
};

}  // namespace wick
