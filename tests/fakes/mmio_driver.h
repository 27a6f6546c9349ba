// The guest's side of the virtio-mmio registers (virtio 1.2, 4.2.2 and 3.1.1):
// the well-behaved order in one call, every single step for tests that do it
// wrong.
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "virtio/device.h"
#include "virtio/mmio.h"

namespace wick::fakes {

class MmioDriver {
 public:
  enum Register : uint64_t {
    kMagic = 0x00,
    kVersion = 0x04,
    kDeviceId = 0x08,
    kVendorId = 0x0c,
    kDeviceFeatures = 0x10,
    kDeviceFeaturesSel = 0x14,
    kDriverFeatures = 0x20,
    kDriverFeaturesSel = 0x24,
    kQueueSel = 0x30,
    kQueueNumMax = 0x34,
    kQueueNum = 0x38,
    kQueueReady = 0x44,
    kQueueNotify = 0x50,
    kInterruptStatus = 0x60,
    kInterruptAck = 0x64,
    kStatus = 0x70,
    kQueueDescLow = 0x80,
    kQueueDescHigh = 0x84,
    kQueueDriverLow = 0x90,
    kQueueDriverHigh = 0x94,
    kQueueDeviceLow = 0xa0,
    kQueueDeviceHigh = 0xa4,
    kConfigGeneration = 0xfc,
    kConfig = 0x100,
  };
  static constexpr uint32_t kAcknowledged = 1;
  static constexpr uint32_t kDriver = 1 | 2;
  static constexpr uint32_t kFeaturesOk = 1 | 2 | 8;
  static constexpr uint32_t kDriverOk = 1 | 2 | 8 | 4;
  static constexpr uint32_t kNeedsReset = 64;

  explicit MmioDriver(BusDevice& device) : device_(device) {}

  uint32_t read(uint64_t offset) const {
    std::array<std::byte, 4> data;
    device_.read(offset, data);
    return load_le<uint32_t>(data);
  }
  void write(uint64_t offset, uint32_t value) const {
    device_.write(offset, as_bytes(&value, sizeof(value)));
  }
  uint64_t config(uint64_t offset, size_t width) const {
    std::array<std::byte, 8> data{};
    device_.read(kConfig + offset, std::span(data).first(width));
    return load_le<uint64_t>(data);
  }

  uint32_t status() const { return read(kStatus); }
  void set_status(uint32_t value) const { write(kStatus, value); }
  void reset() const { set_status(0); }

  uint64_t device_features() const {
    write(kDeviceFeaturesSel, 0);
    const uint64_t low = read(kDeviceFeatures);
    write(kDeviceFeaturesSel, 1);
    return static_cast<uint64_t>(read(kDeviceFeatures)) << 32 | low;
  }
  void set_driver_features(uint64_t features) const {
    write(kDriverFeaturesSel, 0);
    write(kDriverFeatures, static_cast<uint32_t>(features));
    write(kDriverFeaturesSel, 1);
    write(kDriverFeatures, static_cast<uint32_t>(features >> 32));
  }
  // Up to FEATURES_OK; the status as the device then has it.
  uint32_t negotiate(uint64_t features) const {
    reset();
    set_status(kAcknowledged);
    set_status(kDriver);
    set_driver_features(features);
    set_status(kFeaturesOk);
    return status();
  }
  void set_queue(uint32_t index, const virtio::QueueLayout& layout) const {
    write(kQueueSel, index);
    write(kQueueNum, layout.size);
    set_address(kQueueDescLow, layout.descriptors);
    set_address(kQueueDriverLow, layout.driver_area);
    set_address(kQueueDeviceLow, layout.device_area);
    write(kQueueReady, 1);
  }
  // Everything, in the right order, with one queue and every feature that the
  // device offers but those in `without`. False when the device refuses.
  bool start(const virtio::QueueLayout& layout, uint64_t without = 0) const {
    uint64_t features = device_features() & ~without;
    if (!layout.event_index) features &= ~virtio::kFeatureEventIndex;
    if (!layout.indirect) features &= ~virtio::kFeatureIndirect;
    if (negotiate(features) != kFeaturesOk) return false;
    set_queue(0, layout);
    set_status(kDriverOk);
    return status() == kDriverOk;
  }

  void kick(uint32_t queue) const { write(kQueueNotify, queue); }

 private:
  void set_address(uint64_t low_register, GuestAddress address) const {
    write(low_register, static_cast<uint32_t>(address.value));
    write(low_register + 4, static_cast<uint32_t>(address.value >> 32));
  }

  BusDevice& device_;
};

}  // namespace wick::fakes
