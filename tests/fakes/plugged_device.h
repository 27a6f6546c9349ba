// A virtio device with its transport and nothing else of a machine: behind virtio-mmio
// registers, or in a PCI slot.
#pragma once

#include <memory>
#include <string>

#include "devices/pci/host.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/mmio_driver.h"
#include "tests/fakes/pci_driver.h"
#include "tests/fakes/recording_sink.h"
#include "virtio/mmio.h"
#include "virtio/pci.h"

namespace wick::fakes {

class PluggedDevice {
 public:
  virtual ~PluggedDevice() = default;
  virtual virtio::Transport& transport() = 0;
  virtual const TransportDriver& driver() const = 0;

  // The number of interrupts.
  int interrupts() const { return line_.pulses() + line_.edges(); }
  const CountingLine& line() const { return line_; }

 protected:
  CountingLine line_;
};

class OnMmio final : public PluggedDevice {
 public:
  OnMmio(virtio::VirtioDevice& device, const GuestMemory& memory)
      : transport_(virtio::MmioTransport::create(device, memory, line_, "test").value()),
        driver_(*transport_) {}
  virtio::MmioTransport& transport() override { return *transport_; }
  const MmioDriver& driver() const override { return driver_; }

 private:
  std::unique_ptr<virtio::MmioTransport> transport_;
  MmioDriver driver_;
};

class OnPci final : public PluggedDevice {
 public:
  static constexpr Bus::Range kWindow{0xc000'0000, 0x10'0000};
  static constexpr uint64_t kEcam = 0xe000'0000;
  static constexpr uint8_t kSlot = 3;

  OnPci(virtio::VirtioDevice& device, const GuestMemory& memory,
        devices::PciFunction::Moved moved = {})
      : transport_(
            virtio::PciTransport::create(device, memory, line_, sink_, "test", std::move(moved))
                .value()),
        driver_(plug(), kEcam, kSlot) {}
  virtio::PciTransport& transport() override { return *transport_; }
  const PciDriver& driver() const override { return driver_; }
  RecordingSink& sink() { return sink_; }
  devices::PciHost& host() { return host_; }

 private:
  const Bus& plug() {
    host_.attach(kSlot, transport_->function(), 11).value();
    mmio_.attach({kEcam, devices::PciHost::kEcamBytes}, host_.ecam(), "ecam").value();
    mmio_.attach(kWindow, host_.window(), "pci").value();
    return mmio_;
  }

  RecordingSink sink_;
  std::unique_ptr<virtio::PciTransport> transport_;
  devices::PciHost host_{kWindow, [] {}};
  Bus mmio_;
  PciDriver driver_;
};

}  // namespace wick::fakes
