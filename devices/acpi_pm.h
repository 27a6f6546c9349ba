// The fixed hardware of ACPI: the power button, the RTC wake alarm, the sleeping states,
// reset and the power management timer, and eight general-purpose events (GPEs), in one
// block of ports:
//
//   0  PM1a_EVT_BLK  status, 16 bits
//   2                enable, 16 bits
//   4  PM1a_CNT_BLK  control, 16 bits
//   6  RESET_REG     8 bits
//   8  PM_TMR_BLK    counts at 3.579545 MHz, 32 bits
//  12  GPE0_BLK      status, 8 bits
//  13                enable, 8 bits
//
// There is no SMI_CMD: the machine is always in ACPI mode.
//
// Thread rule: any vCPU thread accesses the registers; any thread calls press_power_button(),
// rtc_alarm(), raise_gpe() and wake(); locks itself. The SCI is set and the timer armed with the
// lock held. The actions are called without the lock, on the vCPU's thread, each time the guest
// requests an action.
//
// Specification: ACPI 6.5, 4.8.3 (fixed hardware registers), 4.8.3.3 (power
// management timer), 4.8.3.6 (reset register), 4.8.4.1 (general-purpose events).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "base/bus.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/mutex.h"

namespace wick::devices {

class AcpiPm final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 14;
  // Offsets and lengths of the registers, for the FADT.
  static constexpr uint64_t kEventOffset = 0;
  static constexpr uint8_t kEventBytes = 4;
  static constexpr uint64_t kControlOffset = 4;
  static constexpr uint8_t kControlBytes = 2;
  static constexpr uint64_t kResetOffset = 6;
  static constexpr uint8_t kResetValue = 0x01;
  static constexpr uint64_t kTimerOffset = 8;
  static constexpr uint64_t kGpeOffset = 12;
  static constexpr uint8_t kGpeBytes = 2;
  // SLP_TYP values of the sleeping states, for the DSDT. Those of S3 and S4 are QEMU's. QEMU's
  // value for S5, which is 0, also powers the machine off, because edk2 and many small kernels
  // write 0 without reading the DSDT.
  static constexpr uint8_t kSleepTypeS3 = 1;
  static constexpr uint8_t kSleepTypeS4 = 2;
  static constexpr uint8_t kSleepTypeS5 = 5;

  struct State {
    uint16_t status = 0;
    uint16_t enable = 0;
    uint16_t control = 1;  // SCI_EN is set
    uint8_t gpe_status = 0;
    uint8_t gpe_enable = 0;
    bool timer_top = false;  // the timer's highest bit when TMR_STS was last updated
    bool operator==(const State&) const = default;
  };
  struct Actions {
    std::function<void()> power_off;
    std::function<void()> reset;
    // S3 and S4. If a state has no action, a request for it only logs a warning. After S4 the
    // machine has no power.
    std::function<void()> suspend_to_ram = {};
    std::function<void()> suspend_to_disk = {};
  };

  enum class WakeSource { kPowerButton, kRtcAlarm, kOther };

  struct Clock {
    std::function<std::chrono::nanoseconds()> now;       // monotonic time, arbitrary epoch
    std::function<void(std::chrono::microseconds)> arm;  // must call wake() after this time
  };

  // `sci` is level-triggered, and must outlive this object.
  AcpiPm(InterruptLine& sci, Actions actions, Clock clock);
  // For a machine that continues after S3: starts with `initial`, the result of woken_by().
  AcpiPm(InterruptLine& sci, Actions actions, Clock clock, const State& initial);

  // Returns the registers after a wake from S3: as after a reset, except for the status bits that
  // say what has happened. kOther has no status bit, so it sets that of the power button: an
  // operating system that finds no event may go back to sleep.
  static State woken_by(WakeSource source);
  // Returns the event that ends the sleep of a machine with these registers: a press of the power
  // button, or an alarm that the guest has enabled. Returns nullopt if there was no such event.
  static std::optional<WakeSource> pending_wake(const State& asleep);

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  // Sets PWRBTN_STS. The guest decides what to do; most guests shut down.
  void press_power_button();

  // Sets RTC_STS, which wakes a guest that has enabled it.
  void rtc_alarm();

  // Sets the status bit of general-purpose event `number`, 0 to 7.
  void raise_gpe(unsigned number);
  // Called when the time given to `arm` has passed.
  void wake();

  State state() const;

 private:
  void raise(uint16_t status);
  uint64_t ticks() const;
  uint8_t read_register(uint64_t offset, uint64_t ticks) const REQUIRES(mutex_);
  bool write_register(uint64_t offset, uint8_t value) REQUIRES(mutex_);
  const std::function<void()>* take_sleep() REQUIRES(mutex_);
  void update_timer(uint64_t ticks) REQUIRES(mutex_);
  void update_sci() REQUIRES(mutex_);

  InterruptLine& sci_;
  const Actions actions_;
  const Clock clock_;
  RateLimit warning_;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  bool asserted_ GUARDED_BY(mutex_) = false;  // the last level set on sci_
};

}  // namespace wick::devices
