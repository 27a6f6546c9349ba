// The guest's side of the virtio-mmio registers (virtio 1.2, 4.2.2).
#pragma once

#include <cstdint>

#include "tests/fakes/registers.h"
#include "tests/fakes/transport_driver.h"

namespace wick::fakes {

class MmioDriver final : public TransportDriver {
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
    kQueueReset = 0xc0,
    kConfigGeneration = 0xfc,
    kConfig = 0x100,
  };

  explicit MmioDriver(BusDevice& device) : device_(device) {}

  uint32_t read(uint64_t offset) const {
    return static_cast<uint32_t>(read_register(device_, offset, 4));
  }
  void write(uint64_t offset, uint32_t value) const { write_register(device_, offset, value, 4); }

  uint32_t device_id() const override { return read(kDeviceId); }
  uint32_t status() const override { return read(kStatus); }
  void set_status(uint32_t value) const override { write(kStatus, value); }
  uint32_t device_features_word(uint32_t word) const override {
    write(kDeviceFeaturesSel, word);
    return read(kDeviceFeatures);
  }
  void set_driver_features_word(uint32_t word, uint32_t value) const override {
    write(kDriverFeaturesSel, word);
    write(kDriverFeatures, value);
  }
  uint32_t queue_max_size(uint32_t index) const override {
    write(kQueueSel, index);
    return read(kQueueNumMax);
  }
  void set_queue_registers(uint32_t index, const virtio::QueueLayout& layout) const override {
    write(kQueueSel, index);
    write(kQueueNum, layout.size);
    set_address(kQueueDescLow, layout.descriptors);
    set_address(kQueueDriverLow, layout.driver_area);
    set_address(kQueueDeviceLow, layout.device_area);
  }
  void enable_queue(uint32_t index) const override { set_queue_ready(index, 1); }
  void set_queue_ready(uint32_t index, uint32_t ready) const {
    write(kQueueSel, index);
    write(kQueueReady, ready);
  }
  bool queue_ready(uint32_t index) const override {
    write(kQueueSel, index);
    return read(kQueueReady) == 1;
  }
  void reset_queue(uint32_t index) const override {
    write(kQueueSel, index);
    write(kQueueReset, 1);
  }
  bool queue_in_reset(uint32_t index) const override {
    write(kQueueSel, index);
    return read(kQueueReset) != 0;
  }
  void kick(uint32_t queue) const override { write(kQueueNotify, queue); }
  uint32_t config_generation() const override { return read(kConfigGeneration); }
  uint64_t config(uint64_t offset, size_t width) const override {
    return read_register(device_, kConfig + offset, width);
  }
  void set_config(uint64_t offset, uint64_t value, size_t width) const override {
    write_register(device_, kConfig + offset, value, width);
  }
  uint32_t take_causes() const override {
    const uint32_t causes = read(kInterruptStatus);
    write(kInterruptAck, causes);
    return causes;
  }

 private:
  void set_address(uint64_t low_register, GuestAddress address) const {
    write(low_register, static_cast<uint32_t>(address.value));
    write(low_register + 4, static_cast<uint32_t>(address.value >> 32));
  }

  BusDevice& device_;
};

}  // namespace wick::fakes
