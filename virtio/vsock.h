// The virtio socket device (virtio 1.2, 5.10): stream and seqpacket sockets between the guest and
// programs of the host, addressed by context identifiers (CIDs) and ports, without a network.
//
// vhost-vsock in the host's kernel moves the packets between the guest and the host's AF_VSOCK
// sockets. wick implements the registers, and starts and stops the kernel's device. It does not use
// the event queue: the only event would tell the driver that the CID has changed, which never
// happens.
//
// Thread rule: VirtioDevice's calls as documented there; everything else on the loop.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "virtio/device.h"

namespace wick::virtio {

// The part of the device that the host's kernel executes. vhost_vsock.h implements this interface.
class VsockKernel {
 public:
  virtual ~VsockKernel() = default;

  // The features of the device type (VIRTIO_VSOCK_F_*) that the kernel supports.
  virtual uint64_t features() const = 0;
  // Gives ring 0 or 1 to the kernel, whose device must be stopped. The notifier is valid until the
  // ring is removed.
  virtual Result<void> add_ring(uint64_t features, ActiveQueue queue, DriverNotifier& notifier) = 0;
  virtual void remove_ring(unsigned ring) = 0;
  // Starts or stops the kernel's device. The device can be started only with both rings, and does
  // not access them while it is stopped. At a start the kernel looks for new chains in both rings,
  // because it missed the kicks while the device was stopped.
  virtual Result<void> set_running(bool running) = 0;
};

class Vsock final : public VirtioDevice {
 public:
  static constexpr uint32_t kMinCid = 3;  // 0 to 2 are VMADDR_CID_HYPERVISOR, _LOCAL and _HOST
  static constexpr uint32_t kMaxCid = 0xffff'fffe;  // 0xffff'ffff is VMADDR_CID_ANY

  // `kernel` must have taken the CID already. The loop must outlive the device.
  Vsock(EventLoop& loop, uint32_t cid, std::unique_ptr<VsockKernel> kernel)
      : loop_(loop), cid_(cid), kernel_(std::move(kernel)), features_(kernel_->features()) {}
  ~Vsock() override { reset(); }

  uint32_t id() const override { return VIRTIO_ID_VSOCK; }
  uint64_t features() const override { return features_; }
  std::span<const uint16_t> queue_max_sizes() const override { return kQueueSizes; }
  void read_config(uint64_t offset, std::span<std::byte> data) override;
  void activate(uint64_t features, std::vector<ActiveQueue> queues,
                DriverNotifier& notifier) override;
  void start_queue(ActiveQueue queue, DriverNotifier& notifier) override;
  void stop_queue(uint16_t index) override;
  void reset() override;

  // While held, the kernel does not access the guest's memory. On the loop.
  void hold(bool held);

 private:
  static constexpr std::array<uint16_t, 3> kQueueSizes = {128, 128, 128};
  // The kernel serves queues 0 and 1, receive and transmit; queue 2 is the event queue (5.10.2).
  static constexpr size_t kRings = 2;

  void add(ActiveQueue queue);
  // Starts or stops the kernel's device: it runs while it has both rings and is not held.
  void update();

  // Constant after construction.
  EventLoop& loop_;
  const uint32_t cid_;
  const std::unique_ptr<VsockKernel> kernel_;
  const uint64_t features_;

  // Owned by the loop's thread.
  std::array<bool, kRings> has_ring_{};
  bool held_ = false;
  bool running_ = false;
  uint64_t driver_features_ = 0;
  DriverNotifier* notifier_ = nullptr;  // set while the device is active
};

}  // namespace wick::virtio
