// A virtio device as its transport sees it, and the transport as its device
// sees it. Neither knows which transport or which device the other is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/fd.h"
#include "virtio/queue.h"

namespace wick::virtio {

// Feature bits that belong to no device type (virtio 1.2, 6).
constexpr uint64_t kFeatureIndirect = 1ull << 28;
constexpr uint64_t kFeatureEventIndex = 1ull << 29;
constexpr uint64_t kFeatureVersion1 = 1ull << 32;
constexpr uint64_t kFeatureRingReset = 1ull << 40;

// What a device says to its driver. Any thread.
class DriverNotifier {
 public:
  virtual ~DriverNotifier() = default;
  virtual void queue_interrupt(uint16_t queue) = 0;
  virtual void config_changed() = 0;
  // The driver broke the rules beyond repair (2.1.2, DEVICE_NEEDS_RESET).
  virtual void needs_reset() = 0;
  // True: until disconnect_interrupt(), which must come, each signal of `event` is a
  // queue_interrupt(queue) that costs no thread of ours anything.
  virtual bool connect_interrupt(uint16_t queue, const EventFd& event) {
    static_cast<void>(queue), static_cast<void>(event);
    return false;
  }
  virtual void disconnect_interrupt(const EventFd& event) { static_cast<void>(event); }
};

// A queue in use: the ring, and what becomes readable when the driver kicks it.
struct ActiveQueue {
  uint16_t index = 0;
  VirtQueue ring;
  // The transport's; it lives as long as that.
  const EventFd* kick = nullptr;
};

// Thread rule: called by the transport with its mutex held, so one at a time;
// after activate() the queues belong to the device's own loop.
class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  virtual uint32_t id() const = 0;        // virtio 1.2, 5
  virtual uint64_t features() const = 0;  // of the device type; the transport adds its own
  virtual std::span<const uint16_t> queue_max_sizes() const = 0;

  // Device configuration space; out of its bounds reads are zero and writes
  // are dropped.
  virtual void read_config(uint64_t offset, std::span<std::byte> data) = 0;
  virtual void write_config(uint64_t offset, std::span<const std::byte> data) = 0;

  // DRIVER_OK: the queues that the driver made ready are moved in, with the
  // features it accepted. `notifier` stays valid until reset() has returned.
  virtual void activate(uint64_t features, std::vector<ActiveQueue> queues,
                        DriverNotifier& notifier) = 0;
  // One queue of a running device, as for activate().
  virtual void start_queue(ActiveQueue queue, DriverNotifier& notifier) = 0;
  // Returns when no request of this queue is in flight and the queue is gone (2.6.1). Harmless
  // when it is not in use. It waits for the device's loop, as reset() does.
  virtual void stop_queue(uint16_t index) = 0;
  // Returns when no request is in flight and the queues are gone: the driver
  // may reuse their memory (2.4.1). Harmless when not active. It waits for the
  // device's loop, which therefore must never want the transport's mutex.
  virtual void reset() = 0;
};

}  // namespace wick::virtio
