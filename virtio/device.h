// The interfaces between a virtio device and its transport, for all types of devices and
// transports.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "virtio/queue.h"

namespace wick::virtio {

// Implemented by the transport: the notifications of a device to its driver. Any thread
// may call any function.
class DriverNotifier {
 public:
  virtual ~DriverNotifier() = default;
  virtual void queue_interrupt(uint16_t queue) = 0;
  virtual void config_changed() = 0;
  // Sets DEVICE_NEEDS_RESET (2.1.2), after an error from which only a reset recovers.
  virtual void needs_reset() = 0;
  // Makes signals of `event` interrupt the driver like queue_interrupt(queue), until
  // disconnect_interrupt(), which the caller must call. The kernel delivers the interrupts (irqfd);
  // no wick thread wakes up. While the kernel cannot deliver them, a signal stays in `event`, and
  // the caller must consume it and call queue_interrupt().
  virtual void connect_interrupt(uint16_t queue, const EventFd& event) {
    static_cast<void>(queue), static_cast<void>(event);
  }
  virtual void disconnect_interrupt(const EventFd& event) { static_cast<void>(event); }
};

// For VirtioDevice::read_config(): copies a part of `config`, the content of a device's
// configuration space. Bytes beyond its end are zero.
template <typename Config>
requires std::is_trivially_copyable_v<Config>
void copy_config(const Config& config, uint64_t offset, std::span<std::byte> data) {
  const auto bytes = as_bytes(&config, sizeof(config));
  const auto rest = bytes.subspan(std::min<uint64_t>(offset, bytes.size()));
  const auto end = std::ranges::copy(rest.first(std::min(rest.size(), data.size())), data.begin());
  std::fill(end.out, data.end(), std::byte{0});
}

// A queue in use: its ring, and the eventfd that the driver's notifications signal.
struct ActiveQueue {
  uint16_t index = 0;
  VirtQueue ring;
  const EventFd* kick = nullptr;  // owned by the transport
};

// Thread rule: the transport makes all calls with its mutex held, so two calls never overlap. After
// activate() the queues belong to the device's own loop.
class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  virtual uint32_t id() const = 0;  // the device type's number (virtio 1.2, 5)
  // The offered features of the device type. The transport adds those of the ring.
  virtual uint64_t features() const = 0;
  virtual std::span<const uint16_t> queue_max_sizes() const = 0;

  // The device configuration space. Out of bounds, reads return zero and writes are
  // ignored. By default it is empty, and no field is writable.
  virtual void read_config(uint64_t offset, std::span<std::byte> data) {
    static_cast<void>(offset);
    std::ranges::fill(data, std::byte{0});
  }
  virtual void write_config(uint64_t offset, std::span<const std::byte> data) {
    static_cast<void>(offset), static_cast<void>(data);
  }

  // Called when DRIVER_OK is set and the device may use DMA, with the features that the driver
  // accepted and the queues that it made ready. `notifier` is valid until reset() has returned.
  virtual void activate(uint64_t features, std::vector<ActiveQueue> queues,
                        DriverNotifier& notifier) = 0;
  // Adds one queue to a device that is active.
  virtual void start_queue(ActiveQueue queue, DriverNotifier& notifier) = 0;
  // Removes a queue and returns when none of its requests is in flight (2.6.1). Does nothing
  // if the queue is not in use. Waits for the device's loop, as reset() does.
  virtual void stop_queue(uint16_t index) = 0;
  // Removes all queues and returns when no request is in flight: the driver may reuse their
  // memory (2.4.1). Does nothing if the device is not active. Waits for the device's loop,
  // which therefore must never take the transport's mutex.
  virtual void reset() = 0;
};

}  // namespace wick::virtio
