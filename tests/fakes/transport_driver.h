// The guest's side of a virtio transport (virtio 1.2, 3.1.1): the whole initialisation in
// one call, and each single step for tests that do it wrong. The registers are in
// mmio_driver.h and pci_driver.h.
#pragma once

#include <cstdint>

#include "virtio/device.h"

namespace wick::fakes {

class TransportDriver {
 public:
  static constexpr uint32_t kAcknowledged = 1;
  static constexpr uint32_t kDriver = 1 | 2;
  static constexpr uint32_t kFeaturesOk = 1 | 2 | 8;
  static constexpr uint32_t kDriverOk = 1 | 2 | 8 | 4;
  static constexpr uint32_t kNeedsReset = 64;
  static constexpr uint32_t kFailed = 128;

  static constexpr uint32_t kQueueCause = 1;
  static constexpr uint32_t kConfigCause = 2;

  virtual ~TransportDriver() = default;

  virtual uint32_t device_id() const = 0;
  virtual uint32_t status() const = 0;
  virtual void set_status(uint32_t value) const = 0;
  virtual uint32_t device_features_word(uint32_t word) const = 0;
  virtual void set_driver_features_word(uint32_t word, uint32_t value) const = 0;
  virtual uint32_t queue_max_size(uint32_t index) const = 0;
  virtual void set_queue_registers(uint32_t index, const virtio::QueueLayout& layout) const = 0;
  virtual void enable_queue(uint32_t index) const = 0;
  virtual bool queue_ready(uint32_t index) const = 0;
  // 2.6.1: resets a queue; queue_in_reset() returns true until the device has finished.
  virtual void reset_queue(uint32_t index) const = 0;
  virtual bool queue_in_reset(uint32_t index) const = 0;
  virtual void kick(uint32_t queue) const = 0;
  virtual uint32_t config_generation() const = 0;
  virtual uint64_t config(uint64_t offset, size_t width) const = 0;
  virtual void set_config(uint64_t offset, uint64_t value, size_t width) const = 0;
  // Returns the causes of the interrupt and acknowledges them.
  virtual uint32_t take_causes() const = 0;

  void reset() const { set_status(0); }
  uint64_t device_features() const {
    const uint64_t low = device_features_word(0);
    return static_cast<uint64_t>(device_features_word(1)) << 32 | low;
  }
  void set_driver_features(uint64_t features) const {
    set_driver_features_word(0, static_cast<uint32_t>(features));
    set_driver_features_word(1, static_cast<uint32_t>(features >> 32));
  }
  // Initialises the device up to FEATURES_OK, and returns the device's status.
  uint32_t negotiate(uint64_t features) const {
    reset();
    set_status(kAcknowledged);
    set_status(kDriver);
    set_driver_features(features);
    set_status(kFeaturesOk);
    return status();
  }
  void set_queue(uint32_t index, const virtio::QueueLayout& layout) const {
    set_queue_registers(index, layout);
    enable_queue(index);
  }
  // Initialises the device completely, with one queue and all features that the device
  // offers except those in `without`. Returns false if the device refuses.
  bool start(const virtio::QueueLayout& layout, uint64_t without = 0) const {
    uint64_t features = device_features() & ~without;
    if (!layout.event_index) features &= ~virtio::feature_bit(VIRTIO_RING_F_EVENT_IDX);
    if (!layout.indirect) features &= ~virtio::feature_bit(VIRTIO_RING_F_INDIRECT_DESC);
    if (negotiate(features) != kFeaturesOk) return false;
    set_queue(0, layout);
    set_status(kDriverOk);
    return status() == kDriverOk;
  }
};

}  // namespace wick::fakes
