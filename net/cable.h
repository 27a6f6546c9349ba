// The cable between a NIC and its back end on the host. The cable can be unplugged, and it holds
// back packets to the guest while the machine is paused.
//
// Thread rule: as for Backend; hold() and plug() on the loop.
#pragma once

#include <memory>
#include <vector>

#include "net/backend.h"

namespace wick::net {

class Cable final : public Backend {
 public:
  explicit Cable(std::unique_ptr<Backend> host) : host_(std::move(host)) {}

  // Sets whether packets to the guest are held back. Until they are released, they wait on the
  // host.
  void hold(bool held);
  // Plugs the cable in or unplugs it. While it is unplugged, packets are lost in both directions,
  // and the guest sees that the link is down.
  void plug(bool plugged);
  bool plugged() const { return plugged_; }
  bool held() const { return held_; }

  const std::string& name() const override { return host_->name(); }
  uint16_t queue_pairs() const override { return host_->queue_pairs(); }
  Offloads supported_offloads() const override { return host_->supported_offloads(); }
  Result<void> attach(EventLoop& loop, Events events) override;
  void detach() override;
  int vhost_descriptor(uint16_t pair) const override { return host_->vhost_descriptor(pair); }
  void set_offloads(Offloads offloads) override { host_->set_offloads(offloads); }
  void set_active_pairs(uint16_t count) override { host_->set_active_pairs(count); }
  size_t receive(uint16_t pair, std::span<const iovec> buffers) override;
  void send(uint16_t pair, std::span<const iovec> packet) override {
    if (plugged_) host_->send(pair, packet);
  }
  Result<void> forward(const HostForward& wanted, bool add) override {
    return host_->forward(wanted, add);
  }
  std::string connections() override { return host_->connections(); }
  bool link_up() const override { return plugged_ && host_->link_up(); }

 private:
  void lose_packets(uint16_t pair);

  const std::unique_ptr<Backend> host_;
  Events events_;
  bool held_ = false;
  bool plugged_ = true;
  std::vector<std::byte> lost_;  // the buffer into which lost packets are read; empty until needed
};

}  // namespace wick::net
