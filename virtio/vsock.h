// The virtio socket device (virtio 1.2, 5.10): stream and seqpacket sockets between the guest and
// programs of the host, addressed by context identifiers (CIDs) and ports, without a network.
//
// vhost-vsock in the host's kernel moves the packets and connects them to the host's AF_VSOCK
// sockets. wick has the registers, starts and stops the kernel's device, and leaves the event
// queue alone: an event would tell the driver that the CID has changed, which does not happen.
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

// What the host's kernel does for the device; vhost_vsock.h implements it.
class VsockKernel {
 public:
  virtual ~VsockKernel() = default;

  // The features of the device type, VIRTIO_VSOCK_F_*, that the kernel has.
  virtual uint64_t features() const = 0;
  // Gives it one of the rings 0 and 1, while it does not run. The notifier is valid until the ring
  // is removed.
  virtual Result<void> add_ring(uint64_t features, ActiveQueue queue, DriverNotifier& notifier) = 0;
  virtual void remove_ring(unsigned ring) = 0;
  // Runs only with both rings. After false it does not access them. After true it looks at both,
  // because it does not notice what was kicked while it did not run.
  virtual Result<void> set_running(bool running) = 0;
};

class Vsock final : public VirtioDevice {
 public:
  static constexpr uint32_t kMinCid = 3;  // 0 to 2 are VMADDR_CID_HYPERVISOR, _LOCAL and _HOST
  static constexpr uint32_t kMaxCid = 0xffff'fffe;  // then VMADDR_CID_ANY

  // `kernel` has the CID. The loop must outlive the device.
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

  // On the loop. While held, the kernel does not access the guest's memory.
  void hold(bool held);

 private:
  static constexpr std::array<uint16_t, 3> kQueueSizes = {128, 128, 128};
  static constexpr size_t kRings = 2;  // 5.10.2: receive and transmit; then the event queue

  void add(ActiveQueue queue);
  // Starts or stops the kernel's device, as the queues and hold() require.
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
  DriverNotifier* notifier_ = nullptr;  // while active
};

}  // namespace wick::virtio
