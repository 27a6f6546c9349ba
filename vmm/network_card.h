// One network card of the machine: owns the back end, its loop, and the virtio device on top of
// them. For an e1000, the board owns the chip instead.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"
#include "net/cable.h"
#include "virtio/net.h"
#include "vmm/config.h"
#include "vmm/hardware.h"

namespace wick::vmm {

// The number of rounds that an event loop makes at the beginning of a pause, to serve the queues
// that the guest kicked before the pause (KvmMachine::finish_round() says why).
constexpr int kRoundsOfAPause = 3;

class NetworkCard {
 public:
  // `config` must have a MAC address. `id`, such as "net0", is the name of the card's thread and
  // appears in messages; `machine` is the machine's name.
  static Result<std::unique_ptr<NetworkCard>> create(const NetConfig& config, const std::string& id,
                                                     const std::string& machine);
  ~NetworkCard();

  virtio::VirtioDevice* virtio() { return virtio_.get(); }  // nullptr for an e1000
  net::Backend& backend() { return *backend_; }
  const std::string& id() const { return id_; }

  // While paused, no packet reaches the guest's memory.
  void pause();
  void resume();
  // Plugs or unplugs the card's cable.
  void set_link(bool up);
  CardInfo info();
  // Adds or removes a forward of a user network.
  Result<void> forward(const net::HostForward& wanted, bool add);
  std::string connections();
  EventLoop& loop() { return thread_->loop(); }
  const net::MacAddress& mac() const { return mac_; }

 private:
  NetworkCard(const NetConfig& config, const std::string& id)
      : config_(config), id_(id), mac_(*config.mac) {}
  Result<void> open_backend(const NetConfig& config, const std::string& id,
                            const std::string& machine);
  Result<void> open_tap(const NetConfig& config);

  const NetConfig config_;
  const std::string id_;
  const net::MacAddress mac_;
  Fd tap_lock_;  // locks a TAP that `wick net` created, so that no other machine takes it
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<net::Cable> backend_;
  std::unique_ptr<virtio::Net> virtio_;
};

}  // namespace wick::vmm
