// The part that all virtio transports share: feature negotiation, queue set-up, the
// status bits and their order, activation and reset (virtio 1.2, 2.1 to 2.4 and 3.1).
// mmio.h and pci.h decode register accesses into calls of this class.
//
// Thread rule: any vCPU thread accesses the registers, with the mutex held. Any thread
// makes DriverNotifier's calls, without the mutex.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/guest_memory.h"
#include "base/log.h"
#include "base/mutex.h"
#include "virtio/device.h"

namespace wick::virtio {

class Transport : public DriverNotifier {
 public:
  // `device` and `memory` must outlive the transport. `name` is used in messages.
  // `kicks`, from make_kicks(), has an eventfd for each queue.
  Transport(VirtioDevice& device, const GuestMemory& memory, std::string name,
            std::vector<EventFd> kicks)
      : device_(device),
        memory_(memory),
        name_(std::move(name)),
        kicks_(std::move(kicks)),
        queues_(initial_queues(device)) {}
  static Result<std::vector<EventFd>> make_kicks(const VirtioDevice& device);

  // Resets the device on behalf of the machine. Afterwards the device holds no reference
  // to this transport, which may then be destroyed. Must not be called on the device's
  // loop.
  void power_off();

  void config_changed() final;
  void needs_reset() final;

  // For ioeventfd: a signal of eventfd `i` kicks queue `i`.
  std::span<const EventFd> kicks() const { return kicks_; }

  // The values that the driver wrote to a queue's registers. They are checked when the device
  // starts to use the queue. The initial size is the device's maximum.
  struct QueueState {
    uint16_t size = 0;
    uint64_t descriptors = 0;
    uint64_t driver_area = 0;
    uint64_t device_area = 0;
    bool ready = false;
  };

 protected:
  // Sets whether the device may access guest memory; initially it may. With false, takes the
  // queues away from an active device and returns when the device is idle. The device then needs a
  // reset, because the driver that enables access again may belong to another kernel, which
  // does not know these queues. (QEMU clears DRIVER_OK in this case.) A device that is started
  // while access is disabled gets its queues when access is enabled.
  void enable_dma(bool enabled);

  uint32_t device_features_word() const REQUIRES(mutex_);
  uint32_t driver_features_word() const REQUIRES(mutex_);
  void set_driver_features_word(uint32_t word) REQUIRES(mutex_);

  uint32_t config_generation() const { return config_generation_; }
  uint8_t status() const { return status_.load(); }
  // Handles a write of the status register. The value 0 resets the device and returns when
  // all its queues are idle.
  void set_status(uint8_t value) REQUIRES(mutex_);

  // Returns the selected queue if the driver may set it up now; nullptr if the queue does not exist
  // or is ready, or if the status does not allow it: a queue is set up between FEATURES_OK and
  // DRIVER_OK (3.1.1), and with VIRTIO_F_RING_RESET also later (2.6.1.2).
  QueueState* configurable_queue() REQUIRES(mutex_);
  const QueueState* selected_queue() const REQUIRES(mutex_);
  uint16_t selected_queue_max() const REQUIRES(mutex_);
  // Sets whether the selected queue is ready. If the device is active, true starts the queue at
  // once, and false returns when the device no longer uses the queue.
  void set_queue_ready(bool ready) REQUIRES(mutex_);
  // 2.6.1: resets the selected queue to the state before its set-up, and returns when the device no
  // longer uses it. Returns false and does nothing if there is no such queue or if
  // VIRTIO_F_RING_RESET was not negotiated.
  bool reset_queue() REQUIRES(mutex_);
  void kick(uint32_t queue) const;

  const std::string& name() const { return name_; }

  VirtioDevice& device_;

  Mutex mutex_;
  // The subclasses' registers set these selectors directly.
  uint32_t device_features_select_ GUARDED_BY(mutex_) = 0;
  uint32_t driver_features_select_ GUARDED_BY(mutex_) = 0;
  uint32_t queue_select_ GUARDED_BY(mutex_) = 0;

 private:
  // Interrupts the driver because the configuration has changed. Any thread; does not need the
  // mutex.
  virtual void config_interrupt() = 0;
  // Clears the transport's interrupt state. Called at a reset of the device.
  virtual void reset_interrupts() REQUIRES(mutex_) = 0;

  uint64_t offered_features() const {
    return device_.features() | feature_bit(VIRTIO_F_VERSION_1) |
           feature_bit(VIRTIO_RING_F_INDIRECT_DESC) | feature_bit(VIRTIO_RING_F_EVENT_IDX) |
           feature_bit(VIRTIO_F_RING_RESET);
  }
  static std::vector<QueueState> initial_queues(const VirtioDevice& device);
  std::optional<ActiveQueue> open_queue(uint16_t index) REQUIRES(mutex_);
  void activate() REQUIRES(mutex_);
  void reset() REQUIRES(mutex_);

  const GuestMemory& memory_;
  const std::string name_;
  const std::vector<EventFd> kicks_;
  RateLimit warnings_;

  // Atomic, because any thread makes DriverNotifier's calls.
  std::atomic<uint8_t> status_{0};
  std::atomic<uint32_t> config_generation_{0};

  bool dma_enabled_ GUARDED_BY(mutex_) = true;
  bool active_ GUARDED_BY(mutex_) = false;  // the device has the queues
  uint64_t driver_features_ GUARDED_BY(mutex_) = 0;
  std::vector<QueueState> queues_ GUARDED_BY(mutex_);
};

// Set one half of a 64-bit register.
inline void set_low(uint64_t& field, uint32_t value) { field = (field & ~0xffffffffull) | value; }
inline void set_high(uint64_t& field, uint32_t value) {
  field = (field & 0xffffffffull) | static_cast<uint64_t>(value) << 32;
}

}  // namespace wick::virtio
