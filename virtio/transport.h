// What every virtio transport does behind its registers: feature negotiation,
// queue set-up, the status bits and their order, activation, reset
// (virtio 1.2, 2.1 to 2.4 and 3.1). mmio.h and pci.h decode their registers
// into this.
//
// Thread rule: registers on any vCPU thread, under the mutex; DriverNotifier's
// calls from any thread, without it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "base/guest_memory.h"
#include "base/log.h"
#include "virtio/device.h"

namespace wick::virtio {

// Status bits (2.1).
constexpr uint8_t kStatusAcknowledge = 1;
constexpr uint8_t kStatusDriver = 2;
constexpr uint8_t kStatusDriverOk = 4;
constexpr uint8_t kStatusFeaturesOk = 8;
constexpr uint8_t kStatusNeedsReset = 64;
constexpr uint8_t kStatusFailed = 128;

class Transport : public DriverNotifier {
 public:
  // Both must outlive it; `name` is for messages. Makes the eventfds.
  Transport(VirtioDevice& device, const GuestMemory& memory, std::string name,
            std::vector<EventFd> kicks)
      : device_(device),
        memory_(memory),
        name_(std::move(name)),
        kicks_(std::move(kicks)),
        queues_(initial_queues(device)) {}
  static Result<std::vector<EventFd>> make_kicks(const VirtioDevice& device);

  // As the driver's reset, from the machine: afterwards the device holds nothing
  // of this transport, which may then be destroyed. Not on the device's loop.
  void power_off();

  // For ioeventfd: becomes readable when queue `i` is to be kicked.
  std::span<const EventFd> kicks() const { return kicks_; }

  // Every field is what the driver wrote, checked only when it is used; until
  // then the size is the largest that the device takes.
  struct QueueState {
    uint16_t size = 0;
    uint64_t descriptors = 0;
    uint64_t driver_area = 0;
    uint64_t device_area = 0;
    bool ready = false;
  };

 protected:
  // Whether the device may access guest memory; at first it may. `false` takes the queues away
  // from a running device and returns when it is idle. That device then needs a reset, as in
  // QEMU: the driver that sets the bit again may be another kernel's, which does not know
  // these queues. A device that is started meanwhile gets its queues when it may.
  void enable_dma(bool enabled);

  // The calls below: with mutex_ held.

  uint32_t device_features_word() const;
  uint32_t driver_features_word() const;
  void set_driver_features_word(uint32_t word);

  uint8_t status() const { return status_.load(); }
  // One write of the status register; 0 resets and returns when all is idle.
  void set_status(uint8_t value);

  // The selected queue as far as it may be set up now; nullptr when it does not
  // exist, is ready, or this is not the time (3.1.1: after FEATURES_OK, before
  // DRIVER_OK; 2.6.1.2: later too, with VIRTIO_F_RING_RESET).
  QueueState* configurable_queue();
  const QueueState* selected_queue() const;
  uint16_t selected_queue_max() const;
  // In a running device the queue starts at once; false returns when the device is done with it.
  void set_queue_ready(bool ready);
  // 2.6.1: gives the selected queue back to the driver, in the state that it had before it was
  // set up. Returns when the device is done with it. False: not negotiated, or no such queue.
  bool reset_queue();
  void kick(uint32_t queue) const;

  const std::string& name() const { return name_; }

  VirtioDevice& device_;

  std::mutex mutex_;
  // Guarded by mutex_: the selectors, which the registers set directly.
  uint32_t device_features_select_ = 0;
  uint32_t driver_features_select_ = 0;
  uint32_t queue_select_ = 0;

  // Written by needs_reset() from the device's loop too.
  std::atomic<uint8_t> status_{0};

 private:
  // What this transport forgets at a reset: its interrupt status.
  virtual void reset_interrupts() = 0;

  uint64_t offered_features() const {
    return device_.features() | kFeatureVersion1 | kFeatureIndirect | kFeatureEventIndex |
           kFeatureRingReset;
  }
  static std::vector<QueueState> initial_queues(const VirtioDevice& device);
  std::optional<ActiveQueue> open_queue(uint16_t index);
  void activate();
  void reset();

  const GuestMemory& memory_;
  const std::string name_;
  const std::vector<EventFd> kicks_;
  RateLimit complaints_;

  // Guarded by mutex_.
  bool dma_enabled_ = true;
  bool active_ = false;  // the device has the queues
  uint64_t driver_features_ = 0;
  std::vector<QueueState> queues_;
};

}  // namespace wick::virtio
