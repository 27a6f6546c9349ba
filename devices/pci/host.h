// The PCI host bridge: bus 0 with a function in each of up to 31 slots, whose
// configuration spaces the guest reaches through ports and through memory
// (ECAM), and the windows of addresses and of ports in which their BARs are
// decoded.
//
// Thread rule: attach() before the first vCPU runs; everything else from any
// vCPU. One mutex guards all configuration spaces; an access to a BAR takes
// none here.
//
// Specification: PCI Local Bus 3.0, 3.2.2.3.2 (ports); PCI Express 5.0, 7.2.2
// (ECAM).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>

#include "base/bus.h"
#include "base/result.h"
#include "devices/pci/function.h"

namespace wick::devices {

class PciHost {
 public:
  static constexpr uint64_t kPorts = 8;  // from 0xcf8
  static constexpr size_t kSlots = 32;
  static constexpr uint64_t kEcamBytes = 1 << 20;  // of one bus

  // `window`: addresses; `io_window`: ports, perhaps none. `reset` is what the
  // port 0xcf9 does.
  PciHost(const Bus::Range& window, std::function<void()> reset, const Bus::Range& io_window = {});

  // Gives the BARs their addresses. The function must outlive the bridge.
  // `interrupt_line` is told to systems without ACPI.
  Result<void> attach(uint8_t slot, PciFunction& function, uint8_t interrupt_line);

  BusDevice& ports() { return ports_; }
  BusDevice& ecam() { return ecam_; }
  BusDevice& window() { return window_; }  // offset 0 is the window's start
  BusDevice& io_window() { return io_window_; }

 private:
  struct Ports final : BusDevice {
    explicit Ports(PciHost& bridge) : host(bridge) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    PciHost& host;
    uint32_t address = 0;  // the register at 0xcf8; guarded by the host's mutex
  };
  struct Ecam final : BusDevice {
    explicit Ecam(PciHost& bridge) : host(bridge) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    PciHost& host;
  };
  struct Window final : BusDevice {
    Window(PciHost& bridge, PciFunction::Space of, const Bus::Range& where)
        : host(bridge), space(of), range(where) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;
    BusDevice* find(uint64_t offset, size_t size, uint64_t& there) const;
    PciHost& host;
    const PciFunction::Space space;
    const Bus::Range range;
  };

  // The function that a configuration address names: bus, device, function in
  // bits 8 to 23 of the port's register, 12 to 27 in ECAM. With mutex_ held.
  PciFunction* at(uint32_t bus_device_function);
  void read_config(PciFunction* function, uint64_t offset, std::span<std::byte> data);

  const std::function<void()> reset_;
  PciFunction bridge_;
  uint64_t next_bar_;
  uint64_t next_io_bar_;
  std::array<PciFunction*, kSlots> functions_{};
  Ports ports_{*this};
  Ecam ecam_{*this};
  Window window_;
  Window io_window_;
  std::mutex mutex_;
};

}  // namespace wick::devices
