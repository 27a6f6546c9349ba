// The part of ACPI that is hardware: the power button, soft off (S5) and
// reset, in one block of ports:
//
//   0  PM1a_EVT_BLK  status, 16 bits
//   2                enable, 16 bits
//   4  PM1a_CNT_BLK  control, 16 bits
//   6  RESET_REG     8 bits
//
// There is no SMI_CMD: the machine is always in ACPI mode. There is no PM
// timer either, which ACPI 5.0 and later allow: Linux has kvmclock or the TSC
// and would spend 5 ms of each boot on proving the timer good.
//
// Thread rule: registers from any vCPU thread, press_power_button() from any
// thread; locks itself. The SCI is set under the lock; the callbacks are called
// outside it, on the vCPU's thread, each time the guest asks.
//
// Specification: ACPI 6.5, 4.8.3 (fixed hardware registers), 4.8.3.6 (reset register).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "base/bus.h"
#include "base/interrupt.h"
#include "base/log.h"

namespace wick::devices {

class AcpiPm final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 8;
  // Where the FADT's registers are, and how long.
  static constexpr uint64_t kEventOffset = 0;
  static constexpr uint8_t kEventBytes = 4;
  static constexpr uint64_t kControlOffset = 4;
  static constexpr uint8_t kControlBytes = 2;
  static constexpr uint64_t kResetOffset = 6;
  static constexpr uint8_t kResetValue = 0x01;
  // SLP_TYP for the DSDT's \_S5, the only sleeping state there is.
  static constexpr uint8_t kSleepTypeS5 = 5;

  struct State {
    uint16_t status = 0;
    uint16_t enable = 0;
    uint16_t control = 1;  // SCI_EN
    bool operator==(const State&) const = default;
  };
  struct Actions {
    std::function<void()> power_off;
    std::function<void()> reset;
  };

  // `sci` must outlive the block; it is level-triggered.
  AcpiPm(InterruptLine& sci, Actions actions) : sci_(sci), actions_(std::move(actions)) {}

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  // What the guest makes of it is its own affair: most shut down, some ask.
  void press_power_button();

  State state() const;

 private:
  uint8_t read_register(uint64_t offset) const;
  bool write_register(uint64_t offset, uint8_t value);
  bool take_power_off();
  void update_sci();

  InterruptLine& sci_;
  const Actions actions_;
  RateLimit warning_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  State state_;
  bool asserted_ = false;  // what sci_ was told last
};

}  // namespace wick::devices
