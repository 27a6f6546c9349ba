// The virtio network card (virtio 1.2, 5.1) over a back end of net/.
//
// A packet to send goes directly from the driver's buffers to the back end; net_receiver.h
// receives packets. A packet's header names the offloads that the packet needs. In both
// directions only offloads that the driver negotiated are allowed.
//
// Thread rule: VirtioDevice's calls as documented there; everything else on the loop, to which
// the back end is attached.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/backend.h"
#include "net/mac_address.h"
#include "virtio/loop_queue.h"
#include "virtio/net_control.h"
#include "virtio/net_receiver.h"
#include "virtio/vhost_net.h"

namespace wick::virtio {

class Net final : public VirtioDevice {
 public:
  // Creates a card and attaches it to the back end. All references must outlive the card. `mtu`, in
  // bytes, is reported to the driver. `name` is used in messages. `vhosts` is empty or has one
  // entry for each queue pair. If it has entries, the host's kernel moves the packets and does not
  // apply the receive filter.
  static Result<std::unique_ptr<Net>> create(net::Backend& backend, EventLoop& loop,
                                             const net::MacAddress& mac,
                                             std::optional<uint16_t> mtu, std::string name,
                                             std::vector<std::unique_ptr<VhostNet>> vhosts = {});
  ~Net() override;

  uint32_t id() const override { return VIRTIO_ID_NET; }
  uint64_t features() const override { return features_; }
  std::span<const uint16_t> queue_max_sizes() const override { return queue_sizes_; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override;
  void reset() override;

  // While held, vhost-net moves no packets. Does nothing without vhost-net. On the loop.
  void hold_vhost(bool held);
  // The settings that the driver has chosen. On the loop.
  const NetSettings& settings() const { return settings_; }

 private:
  Net(net::Backend& backend, EventLoop& loop, const net::MacAddress& mac,
      std::optional<uint16_t> mtu, std::string name);

  void start(uint64_t features, std::vector<ActiveQueue> queues, DriverNotifier& notifier);
  void add(ActiveQueue queue);
  void add_to_vhost(ActiveQueue queue);
  void serve_all();
  uint16_t control_index() const;
  void stop();
  void serve_transmit(uint16_t pair);
  bool transmit(uint16_t pair, LoopQueue::Request& request, size_t& budget);
  void serve_control();
  bool control(LoopQueue::Request& request, size_t& budget);
  void apply_settings();
  void link_changed();

  // Constant after construction.
  net::Backend& backend_;
  EventLoop& loop_;
  const net::MacAddress mac_;
  const std::optional<uint16_t> mtu_;
  const std::string name_;
  const uint64_t features_;
  const std::vector<uint16_t> queue_sizes_;

  // Atomic, because vCPUs read these in read_config().
  std::atomic<uint64_t> current_mac_;  // the address is in the first six bytes
  std::atomic<bool> link_up_{true};
  std::atomic<bool> announce_{false};

  // Owned by the loop's thread.
  bool vhost_held_ = false;
  NetSettings settings_;
  std::deque<std::optional<NetReceiver>> receivers_;  // by queue pair; nullopt: not in use
  std::deque<std::optional<LoopQueue>> transmitters_;
  std::optional<LoopQueue> control_;
  std::vector<std::unique_ptr<VhostNet>> vhosts_;
  DriverNotifier* notifier_ = nullptr;  // set while the device is active
  bool link_change_pending_ = false;    // the link changed while there was no driver
  std::vector<iovec> packet_;
  RateLimit warnings_;
};

}  // namespace wick::virtio
