// virtio over PCI, without the legacy interface (virtio 1.2, 4.1). BAR 0 of the function
// has the virtio registers, which a driver finds through capabilities; BAR 1 has the
// MSI-X table.
#pragma once

#include <linux/virtio_pci.h>

#include <memory>
#include <vector>

#include "base/bus.h"
#include "base/interrupt.h"
#include "base/mutex.h"
#include "devices/pci/function.h"
#include "virtio/transport.h"

namespace wick::virtio {

class PciTransport final : public Transport, public BusDevice {
 public:
  static constexpr uint32_t kBarBytes = 0x4000;
  // A write of any length to kNotifyOffset + n * kNotifyStride kicks queue n.
  static constexpr uint64_t kNotifyOffset = 0x3000;
  static constexpr uint32_t kNotifyStride = 4;

  // All references must outlive the transport. `moved` is called when the address of BAR 0
  // changes, so that the caller can register ioeventfds.
  static Result<std::unique_ptr<PciTransport>> create(VirtioDevice& device,
                                                      const GuestMemory& memory,
                                                      InterruptLine& intx, MsiSink& msi,
                                                      std::string name,
                                                      devices::PciFunction::Moved moved);

  devices::PciFunction& function() { return function_; }

  // BAR 0.
  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  void queue_interrupt(uint16_t queue) override;
  void connect_interrupt(uint16_t queue, const EventFd& event) override {
    interrupts_.connect(queue_vectors_[queue], event);
  }
  void disconnect_interrupt(const EventFd& event) override { interrupts_.disconnect(event); }

 private:
  // The register pci_cfg_data. Through its capability a driver accesses the BARs by configuration
  // space alone (4.1.4.9).
  struct ConfigAccess final : BusDevice {
    explicit ConfigAccess(PciTransport& owner) : transport(owner) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    bool locate(uint64_t& offset, size_t& size) const;
    PciTransport& transport;
    uint8_t capability = 0;
  };

  PciTransport(VirtioDevice& device, const GuestMemory& memory, InterruptLine& intx, MsiSink& msi,
               std::string name, devices::PciFunction::Moved moved, std::vector<EventFd> kicks);

  void add_capabilities();
  void reset_interrupts() override REQUIRES(mutex_);
  void config_interrupt() override;
  void raise(uint8_t cause, uint16_t vector);
  uint64_t read_common(uint64_t offset) const REQUIRES(mutex_);
  void write_common(uint64_t offset, uint32_t value) REQUIRES(mutex_);
  uint16_t accepted_vector(uint32_t value) const;
  uint16_t selected_vector() const REQUIRES(mutex_);

  devices::PciInterrupts interrupts_;
  devices::PciFunction function_;
  ConfigAccess config_access_{*this};

  // Guards isr_ and the level of INTx, which vCPUs and the device's loop change.
  Mutex isr_mutex_;
  uint8_t isr_ GUARDED_BY(isr_mutex_) = 0;

  // Atomic, because the device's loop reads these while a vCPU may write them.
  std::atomic<uint16_t> config_vector_{VIRTIO_MSI_NO_VECTOR};
  std::vector<std::atomic<uint16_t>> queue_vectors_;
};

}  // namespace wick::virtio
