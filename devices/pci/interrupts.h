// The interrupts of a PCI function: its INTx wire, and MSI-X messages once the driver
// has enabled MSI-X. As a BusDevice it is the BAR with the MSI-X table and the pending
// bit array (PBA).
//
// Thread rule: any thread. One mutex guards everything. The line and the sink are called with the
// mutex held, so that no interrupt is sent after the guest has masked it; neither may call back.
//
// Specification: PCI Local Bus 3.0, 2.2.6 (INTx) and 6.8.2 (MSI-X).
#pragma once

#include <linux/pci_regs.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/bus.h"
#include "base/interrupt.h"
#include "base/mutex.h"

namespace wick::devices {

class PciInterrupts final : public BusDevice {
 public:
  static constexpr uint16_t kMaxVectors = 128;
  static constexpr uint32_t kBarBytes = 0x1000;
  static constexpr uint32_t kPendingOffset = 0x800;

  // `vectors` is 1 to kMaxVectors. `intx` and `sink` must outlive this object.
  PciInterrupts(uint16_t vectors, InterruptLine& intx, MsiSink& sink)
      : vectors_(vectors), intx_(intx), sink_(sink) {}

  // Called by the device. The INTx wire has the level `asserted` unless the driver has
  // disabled it or enabled MSI-X.
  void set_intx(bool asserted);
  // Sends the vector's message, or sets its pending bit if the vector is masked. A vector that does
  // not exist is ignored.
  void send(uint16_t vector);
  bool msix_enabled() const;
  // From now until disconnect(), `event` is connected to the sink whenever the vector's message may
  // be sent. While `event` is connected, a signal acts as send(vector). While it is not (the vector
  // is masked, or the sink refuses), a signal stays in `event`, and the caller must call send().
  void connect(uint16_t vector, const EventFd& event);
  void disconnect(const EventFd& event);
  // Deasserts INTx and clears all pending bits, for a reset of the device.
  void clear();

  // The functions below are for PciFunction, which has the configuration space.
  uint16_t vectors() const { return vectors_; }
  bool intx_pending() const;  // the Interrupt Status bit
  struct Control {
    bool intx_disabled = false;
    // 6.2.2: while the Bus Master bit is clear, the function sends no messages, because they are
    // memory writes. The messages become pending.
    bool bus_master = true;
    uint16_t msix_control = 0;
  };
  void configure(const Control& control);

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t, bool) const override { return {"MSI-X table", {}}; }

  struct Vector {
    uint64_t address = 0;
    uint32_t data = 0;
    uint32_t control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
  };
  // The guest-visible state, with its values at power-on.
  struct State {
    std::array<Vector, kMaxVectors> table = {};
    std::array<uint64_t, kMaxVectors / 64> pending = {};
    Control control;
    bool intx_asserted = false;
  };

 private:
  uint32_t read_word(uint64_t offset) const REQUIRES(mutex_);
  void write_word(uint64_t offset, uint32_t value) REQUIRES(mutex_);
  bool masked(const Vector& vector) const REQUIRES(mutex_);
  void send_pending() REQUIRES(mutex_);
  void update_line() REQUIRES(mutex_);
  bool msix_in_use() const REQUIRES(mutex_) {
    return (state_.control.msix_control & PCI_MSIX_FLAGS_ENABLE) != 0;
  }

  // An event whose signals send a vector.
  struct Connection {
    const EventFd* event;
    uint16_t vector;
    bool in_sink;    // the sink delivers the event now
    Vector message;  // the message that the sink sends for the event
  };
  void update(Connection& connection) REQUIRES(mutex_);
  void update_connections() REQUIRES(mutex_);

  const uint16_t vectors_;
  InterruptLine& intx_;
  MsiSink& sink_;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  bool line_ GUARDED_BY(mutex_) = false;  // the last level set on intx_
  std::vector<Connection> connections_ GUARDED_BY(mutex_);
};

}  // namespace wick::devices
