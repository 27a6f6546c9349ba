// The real-time clock of a PC, an MC146818 with the CMOS memory around it.
//
// It shows the host's time in UTC; a guest that sets it moves its own copy, by
// whole seconds, for as long as the machine runs. Seconds begin when the
// host's do. There are alarm and update-ended interrupts, made by waking once
// a second while the guest has one of them enabled; there is no periodic
// interrupt and no square wave, which Linux has not used since 2.6.38.
//
// Thread rule: registers from any vCPU thread, wake() from any thread; locks
// itself. `line`, `arm` and `alarm` are called under the lock.
//
// Specification: MC146818A data sheet (Motorola); the century is at 0x32 as in
// the IBM AT, and the FADT says so.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "base/bus.h"
#include "base/interrupt.h"

namespace wick::devices {

class Rtc final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 2;      // index and data
  static constexpr uint8_t kCentury = 0x32;  // for the FADT

  struct Wires {
    std::function<std::chrono::nanoseconds()> now;       // since 1970, UTC
    std::function<void(std::chrono::microseconds)> arm;  // wake() is to be called that much later
    std::function<void()> alarm;                         // an enabled alarm went off
  };

  struct State {
    uint8_t index = 0;
    // What the guest stored. The clock's registers are worked out when they
    // are read, except while the guest holds them still to set them.
    std::array<uint8_t, 128> bytes = {};
    std::chrono::seconds offset{0};   // to the host's clock
    std::chrono::seconds updated{0};  // the last second that updated the flags in register C
    bool operator==(const State&) const = default;
  };

  // `line` must outlive the clock.
  Rtc(InterruptLine& line, Wires wires);

  // Index and data in one 16-bit access is a known trick and works.
  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  // The armed time has come.
  void wake();

  State state() const;

 private:
  uint8_t read_register();
  void write_register(uint8_t value);
  void write_control(uint8_t value);
  bool held() const;
  std::chrono::seconds time() const;
  void start();
  void show(std::chrono::seconds time);
  std::chrono::seconds shown() const;
  uint8_t encode(int value) const;
  int decode(uint8_t value) const;
  uint8_t encode_hour(int hour) const;
  int decode_hour(uint8_t value) const;
  bool alarm_at(std::chrono::seconds time) const;
  void update();
  void update_line();

  InterruptLine& line_;
  const Wires wires_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  State state_;
  bool asserted_ = false;  // what line_ was told last
  bool alarmed_ = false;   // wires_.alarm was called for the alarm that is requested now
};

// CLOCK_REALTIME, for Wires::now.
std::chrono::nanoseconds host_time();

}  // namespace wick::devices
