// The guest's side of a virtio-pci function (virtio 1.2, 4.1). It finds everything from
// the function's slot.
#pragma once

#include <linux/virtio_pci.h>

#include <cstdint>
#include <vector>

#include "base/bus.h"
#include "tests/fakes/recording_sink.h"
#include "tests/fakes/registers.h"
#include "tests/fakes/transport_driver.h"

namespace wick::fakes {

class PciDriver final : public TransportDriver {
 public:
  static constexpr uint64_t kCommand = 0x04;
  static constexpr uint64_t kStatus = 0x06;
  static constexpr uint64_t kBars = 0x10;
  static constexpr uint64_t kCapabilities = 0x34;
  static constexpr uint8_t kMsixId = 0x11;
  static constexpr uint8_t kVendorId = 0x09;
  static constexpr uint16_t kMsixEnable = 1 << 15;
  static constexpr uint16_t kMsixMaskAll = 1 << 14;

  struct Capability {
    uint8_t id = 0;
    uint8_t offset = 0;
  };
  // The structure that a virtio capability points to.
  struct Structure {
    uint8_t capability = 0;  // the capability's offset
    uint8_t type = 0;
    uint8_t bar = 0;
    uint32_t offset = 0;
    uint32_t length_bytes = 0;
  };

  // `mmio` contains the configuration spaces, at `ecam`, and the BARs.
  PciDriver(const Bus& mmio, uint64_t ecam, uint8_t slot)
      : mmio_(mmio),
        space_(ecam + (uint64_t{slot} << 15)),
        common_(address(VIRTIO_PCI_CAP_COMMON_CFG)),
        isr_(address(VIRTIO_PCI_CAP_ISR_CFG)),
        config_(address(VIRTIO_PCI_CAP_DEVICE_CFG)),
        notify_(address(VIRTIO_PCI_CAP_NOTIFY_CFG)),
        notify_stride_(space(find(VIRTIO_PCI_CAP_NOTIFY_CFG).capability + 16u, 4)) {}

  // --- memory accesses ---

  uint64_t read(uint64_t at, size_t width) const {
    std::array<std::byte, 8> data{};
    mmio_.read(at, std::span(data).first(width));
    return load_le<uint64_t>(data);
  }
  void write(uint64_t at, uint64_t value, size_t width) const {
    mmio_.write(at, as_bytes(&value, width));
  }
  uint64_t space(uint64_t offset, size_t width) const { return read(space_ + offset, width); }
  void set_space(uint64_t offset, uint64_t value, size_t width) const {
    write(space_ + offset, value, width);
  }
  void set_bus_master(bool enabled) const {
    constexpr uint64_t kBusMaster = 1 << 2;
    const uint64_t command = space(kCommand, 2);
    set_space(kCommand, enabled ? command | kBusMaster : command & ~kBusMaster, 2);
  }
  uint64_t bar(uint64_t index) const { return space(kBars + 4 * index, 4); }

  std::vector<Capability> capabilities() const {
    std::vector<Capability> found;
    for (uint64_t at = space(kCapabilities, 1); at != 0 && found.size() < 64; at = space(at + 1, 1))
      found.push_back({static_cast<uint8_t>(space(at, 1)), static_cast<uint8_t>(at)});
    return found;
  }
  std::vector<Structure> structures() const {
    std::vector<Structure> found;
    for (const auto& [id, at] : capabilities())
      if (id == kVendorId)
        found.push_back({.capability = at,
                         .type = static_cast<uint8_t>(space(at + 3u, 1)),
                         .bar = static_cast<uint8_t>(space(at + 4u, 1)),
                         .offset = static_cast<uint32_t>(space(at + 8u, 4)),
                         .length_bytes = static_cast<uint32_t>(space(at + 12u, 4))});
    return found;
  }
  Structure find(uint8_t type) const {
    for (const Structure& structure : structures())
      if (structure.type == type) return structure;
    return {};
  }

  uint64_t common_address() const { return common_; }
  uint64_t isr_address() const { return isr_; }
  uint64_t notify_address() const { return notify_; }
  uint64_t notify_stride() const { return notify_stride_; }
  uint64_t common(uint64_t offset, size_t width) const { return read(common_ + offset, width); }
  void set_common(uint64_t offset, uint64_t value, size_t width) const {
    write(common_ + offset, value, width);
  }
  void select(uint32_t queue) const { set_common(VIRTIO_PCI_COMMON_Q_SELECT, queue, 2); }

  // --- MSI-X ---

  uint64_t msix() const {
    for (const auto& [id, at] : capabilities())
      if (id == kMsixId) return at;
    return 0;
  }
  void set_msix(uint16_t control) const { set_space(msix() + 2, control, 2); }
  void set_vector(uint32_t vector, const RecordingSink::Message& message, bool masked) const {
    const uint64_t table = space(msix() + 4, 4);
    const uint64_t entry = bar(table & 7) + (table & ~7ull) + 16 * vector;
    write(entry, message.address, 8);
    write(entry + 8, message.data, 4);
    write(entry + 12, masked ? 1 : 0, 4);
  }
  uint64_t pending() const {
    const uint64_t bits = space(msix() + 8, 4);
    return read(bar(bits & 7) + (bits & ~7ull), 8);
  }
  uint32_t set_config_vector(uint32_t vector) const {
    set_common(VIRTIO_PCI_COMMON_MSIX, vector, 2);
    return static_cast<uint32_t>(common(VIRTIO_PCI_COMMON_MSIX, 2));
  }
  uint32_t set_queue_vector(uint32_t queue, uint32_t vector) const {
    select(queue);
    set_common(VIRTIO_PCI_COMMON_Q_MSIX, vector, 2);
    return static_cast<uint32_t>(common(VIRTIO_PCI_COMMON_Q_MSIX, 2));
  }

  // --- access through the configuration space (4.1.4.9) ---

  // Sets the target of the access, and returns the offset of pci_cfg_data.
  uint64_t aim(uint32_t offset, uint32_t length, uint32_t bar = 0) const {
    const uint64_t at = find(VIRTIO_PCI_CAP_PCI_CFG).capability;
    set_space(at + 4, bar, 1);
    set_space(at + 8, offset, 4);
    set_space(at + 12, length, 4);
    return at + 16;
  }

  // --- TransportDriver ---

  uint32_t device_id() const override { return static_cast<uint32_t>(space(2, 2) - 0x1040); }
  uint32_t status() const override {
    return static_cast<uint32_t>(common(VIRTIO_PCI_COMMON_STATUS, 1));
  }
  void set_status(uint32_t value) const override { set_common(VIRTIO_PCI_COMMON_STATUS, value, 1); }
  uint32_t device_features_word(uint32_t word) const override {
    set_common(VIRTIO_PCI_COMMON_DFSELECT, word, 4);
    return static_cast<uint32_t>(common(VIRTIO_PCI_COMMON_DF, 4));
  }
  void set_driver_features_word(uint32_t word, uint32_t value) const override {
    set_common(VIRTIO_PCI_COMMON_GFSELECT, word, 4);
    set_common(VIRTIO_PCI_COMMON_GF, value, 4);
  }
  // The maximum can be read only before the driver sets the size.
  uint32_t queue_max_size(uint32_t index) const override {
    select(index);
    return static_cast<uint32_t>(common(VIRTIO_PCI_COMMON_Q_SIZE, 2));
  }
  void set_queue_registers(uint32_t index, const virtio::QueueLayout& layout) const override {
    select(index);
    set_common(VIRTIO_PCI_COMMON_Q_SIZE, layout.size, 2);
    set_address(VIRTIO_PCI_COMMON_Q_DESCLO, layout.descriptors);
    set_address(VIRTIO_PCI_COMMON_Q_AVAILLO, layout.driver_area);
    set_address(VIRTIO_PCI_COMMON_Q_USEDLO, layout.device_area);
  }
  void enable_queue(uint32_t index) const override {
    select(index);
    set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
  }
  bool queue_ready(uint32_t index) const override {
    select(index);
    return common(VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 1;
  }
  void reset_queue(uint32_t index) const override {
    select(index);
    set_common(VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
  }
  bool queue_in_reset(uint32_t index) const override {
    select(index);
    return common(VIRTIO_PCI_COMMON_Q_RESET, 2) != 0;
  }
  void kick(uint32_t queue) const override { write(notify_ + queue * notify_stride_, queue, 2); }
  uint32_t config_generation() const override {
    return static_cast<uint32_t>(common(VIRTIO_PCI_COMMON_CFGGENERATION, 1));
  }
  uint64_t config(uint64_t offset, size_t width) const override {
    return read(config_ + offset, width);
  }
  void set_config(uint64_t offset, uint64_t value, size_t width) const override {
    write(config_ + offset, value, width);
  }
  uint32_t take_causes() const override { return static_cast<uint32_t>(read(isr_, 1)); }

 private:
  uint64_t address(uint8_t type) const {
    const Structure structure = find(type);
    return bar(structure.bar) + structure.offset;
  }
  void set_address(uint64_t low_register, GuestAddress at) const {
    set_common(low_register, at.value & 0xffffffff, 4);
    set_common(low_register + 4, at.value >> 32, 4);
  }

  const Bus& mmio_;
  const uint64_t space_;
  // Addresses; valid until the guest moves the BARs.
  const uint64_t common_;
  const uint64_t isr_;
  const uint64_t config_;
  const uint64_t notify_;
  const uint64_t notify_stride_;
};

}  // namespace wick::fakes
