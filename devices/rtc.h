// The real-time clock of a PC: an MC146818 with CMOS memory.
//
// The clock has the host's time in UTC. If the guest sets the clock, an offset to the host's time
// changes, in whole seconds. The offset is lost when the machine ends. Alarm and update-ended
// interrupts are checked once per second while the guest enables one of them. The periodic
// interrupt comes at most 8192 times per second; SeaBIOS measures time with it. While one is
// pending, no timer is set for the next one, so a guest that does not keep up loses ticks, as on
// the chip. The square wave output is missing, because a PC connects nothing to it.
//
// Thread rule: any vCPU thread accesses the registers, any thread calls wake(), preset() and
// state(); locks itself. `line`, `arm` and `alarm` are called with the lock held.
//
// Specification: MC146818A data sheet (Motorola); the century is at 0x32 as in
// the IBM AT, and the FADT gives its index.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "base/bus.h"
#include "base/interrupt.h"
#include "base/mutex.h"

namespace wick::devices {

class Rtc final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 2;      // the index port and the data port
  static constexpr uint8_t kCentury = 0x32;  // the index of the century, for the FADT

  struct Wires {
    std::function<std::chrono::nanoseconds()> now;       // time since 1970, in UTC
    std::function<void(std::chrono::microseconds)> arm;  // must call wake() after this time
    std::function<void()> alarm;                         // called when an enabled alarm fires
  };

  struct State {
    uint8_t index = 0;
    // The registers and the CMOS memory. The time registers are updated when they are
    // read, except while the guest has set SET.
    std::array<uint8_t, 128> bytes = {};
    std::chrono::seconds offset{0};   // added to the host's time
    std::chrono::seconds updated{0};  // the last second that updated the flags in register C
    int64_t periodic_tick = 0;        // the last periodic tick that updated the flags; 1970 is 0
    bool operator==(const State&) const = default;
  };

  // `line` must outlive the clock.
  Rtc(InterruptLine& line, Wires wires);
  // Continues from the state of another clock, as a clock with a battery does while the machine
  // sleeps (S3). An alarm that was missed during the sleep fires now.
  Rtc(InterruptLine& line, Wires wires, const State& state);

  // Sets bytes of the CMOS memory, which firmware reads. `cmos` has pairs of an index and a value.
  // The indexes of the clock's registers are not allowed.
  void preset(std::span<const std::pair<uint8_t, uint8_t>> cmos);

  // A 16-bit write sets the index and then the data, as on a PC.
  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  // Called when the time given to `arm` has passed.
  void wake();

  State state() const;

 private:
  uint8_t read_register() REQUIRES(mutex_);
  void write_register(uint8_t value) REQUIRES(mutex_);
  void write_control(uint8_t value) REQUIRES(mutex_);
  bool updates_inhibited() const REQUIRES(mutex_);
  std::chrono::seconds time() const REQUIRES(mutex_);
  void set_time_from_registers() REQUIRES(mutex_);
  void store_time(std::chrono::seconds time) REQUIRES(mutex_);
  std::chrono::seconds stored_time() const REQUIRES(mutex_);
  uint8_t encode(int value) const REQUIRES(mutex_);
  int decode(uint8_t value) const REQUIRES(mutex_);
  uint8_t encode_hour(int hour) const REQUIRES(mutex_);
  int decode_hour(uint8_t value) const REQUIRES(mutex_);
  bool alarm_at(std::chrono::seconds time) const REQUIRES(mutex_);
  void update() REQUIRES(mutex_);
  void update_flags(std::chrono::nanoseconds host) REQUIRES(mutex_);
  void arm_timer(std::chrono::nanoseconds host) REQUIRES(mutex_);
  int64_t periodic_tick(std::chrono::nanoseconds host) const REQUIRES(mutex_);
  void update_line() REQUIRES(mutex_);

  InterruptLine& line_;
  const Wires wires_;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  bool asserted_ GUARDED_BY(mutex_) = false;  // the last level set on line_
  // wires_.alarm was called for the alarm that is pending now.
  bool alarmed_ GUARDED_BY(mutex_) = false;
};

// Returns CLOCK_REALTIME, for Wires::now.
std::chrono::nanoseconds host_time();

}  // namespace wick::devices
