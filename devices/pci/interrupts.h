// How a PCI function interrupts: by its INTx wire, or by the messages of MSI-X
// once the driver has switched those on. As a BusDevice it is the BAR with the
// MSI-X table and the pending bits.
//
// Thread rule: any thread. The mutex guards all and under it are called the
// line and the sink, so that what is masked, moved or lowered stays so; neither
// may call back.
//
// Specification: PCI Local Bus 3.0, 2.2.6 (INTx) and 6.8.2 (MSI-X).
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/bus.h"
#include "base/interrupt.h"

namespace wick::devices {

class PciInterrupts final : public BusDevice {
 public:
  static constexpr uint16_t kMostVectors = 128;
  static constexpr uint32_t kBarBytes = 0x1000;
  static constexpr uint32_t kPendingOffset = 0x800;
  // Bits of the MSI-X message control register.
  static constexpr uint16_t kMsixEnable = 1 << 15;
  static constexpr uint16_t kMsixMaskAll = 1 << 14;

  // `vectors`: 1 to kMostVectors. Both others must outlive it.
  PciInterrupts(uint16_t vectors, InterruptLine& intx, MsiSink& sink)
      : vectors_(vectors), intx_(intx), sink_(sink) {}

  // For the device. The wire follows `asserted` unless it is disabled or
  // MSI-X is in use.
  void set_intx(bool asserted);
  // A vector that does not exist is nobody's interrupt.
  void send(uint16_t vector);
  bool msix_enabled() const;
  // True: until disconnect() each signal of `event` is a send(vector). False: MSI-X is not
  // in use, or the sink cannot do that.
  bool connect(uint16_t vector, const EventFd& event);
  void disconnect(const EventFd& event);
  // There is no interrupt any more, on the wire or pending: the device was reset.
  void withdraw();

  // For the configuration space.
  uint16_t vectors() const { return vectors_; }
  bool intx_pending() const;  // the interrupt status bit
  struct Control {
    bool intx_disabled = false;
    // 6.2.2: without it the function sends no messages, which are writes to memory. They
    // become pending.
    bool bus_master = true;
    uint16_t msix_control = 0;
  };
  void configure(const Control& control);

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t, bool) const override { return {"MSI-X table", {}}; }

  struct Vector {
    static constexpr uint32_t kMasked = 1;
    uint64_t address = 0;
    uint32_t data = 0;
    uint32_t control = kMasked;
  };
  // What the guest can see, at power-on.
  struct State {
    std::array<Vector, kMostVectors> table = {};
    std::array<uint64_t, kMostVectors / 64> pending = {};
    Control control;
    bool intx_asserted = false;
  };

 private:
  uint32_t read_word(uint64_t offset) const;
  void write_word(uint64_t offset, uint32_t value);
  bool masked(const Vector& vector) const;
  void send_pending();
  void update_line();
  bool msix_in_use() const { return (state_.control.msix_control & kMsixEnable) != 0; }

  // An event that stands for a vector.
  struct Connection {
    const EventFd* event;
    uint16_t vector;
    bool made;
    Vector message;  // as the sink has it, if made
  };
  void update(Connection& connection);
  void update_connections();

  const uint16_t vectors_;
  InterruptLine& intx_;
  MsiSink& sink_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  State state_;
  bool line_ = false;  // what intx_ was told last
  std::vector<Connection> connections_;
};

}  // namespace wick::devices
