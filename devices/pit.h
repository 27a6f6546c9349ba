// The interval timer of a PC (an 8254) and port 0x61, used until the guest needs a counter that
// runs.
//
// KVM's timer makes the end of a machine several times slower (its destruction waits for
// grace periods of the kernel), and a Linux with a TSC deadline timer never uses it. So this
// device only stores what the guest writes. It calls `start` as soon as an answer or an
// interrupt depends on a running counter; KVM's timer then continues from the state given, and
// KVM no longer passes accesses to this device.
//
// One count does run here. Newer Linux kernels stop counter 0 by setting mode 0 with the count 0,
// which means 65536 ticks: so one more interrupt comes after 55 ms.
//
// Thread rule: any vCPU thread accesses the registers, any thread calls wake(); locks itself.
// Wires and the line are used with the lock held.
//
// Specification: Intel 8254 data sheet; IBM PC AT Technical Reference, "System Timers" and "Port
// 61". Where the data sheet leaves a choice, this device answers as KVM's timer does.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/bus.h"
#include "base/interrupt.h"
#include "base/mutex.h"

namespace wick::devices {

class Pit {
 public:
  static constexpr uint64_t kPorts = 4;  // three counters, and the control word
  static constexpr size_t kCounters = 3;
  static constexpr uint64_t kTicksPerSecond = 1'193'182;

  // Which byte of a count the next access reads or writes.
  enum class Access : uint8_t { kNone, kLow, kHigh, kLowOfBoth, kHighOfBoth };

  struct Counter {
    static constexpr uint8_t kUnprogrammed = 0xff;
    uint32_t count = 0x10000;  // in ticks; a written 0 means 0x10000
    uint8_t mode = kUnprogrammed;
    bool bcd = false;
    bool gate = true;
    bool loaded = false;               // a whole count was written since the control word
    Access access = Access::kNone;     // as the control word selects
    Access next_read = Access::kNone;  // kHighOfBoth after the low byte was read
    Access next_write = Access::kNone;
    uint8_t low_byte = 0;  // already written, while the high byte is missing
    uint16_t latched_count = 0;
    Access latched = Access::kNone;  // what is still to be read of latched_count
    bool status_latched = false;
    uint8_t status = 0;
    bool operator==(const Counter&) const = default;
  };

  struct State {
    std::array<Counter, kCounters> counters = {Counter{}, Counter{}, Counter{.gate = false}};
    bool speaker = false;  // bit 1 of port 0x61
    bool operator==(const State&) const = default;
  };

  struct Wires {
    std::function<std::chrono::nanoseconds()> now;       // monotonic time
    std::function<void(std::chrono::microseconds)> arm;  // must call wake() after this time
    std::function<void(const State&)> start;             // hands over to KVM's timer; called once
  };

  // `line` is the interrupt of counter 0, and must outlive the timer.
  Pit(InterruptLine& line, Wires wires) : line_(line), wires_(std::move(wires)) {}

  BusDevice& counters() { return counter_ports_; }  // ports 0x40 to 0x43
  BusDevice& port_61() { return port_61_; }

  // Called when the time given to `arm` has passed.
  void wake();

  State state() const;

 private:
  class CounterPorts final : public BusDevice {
   public:
    explicit CounterPorts(Pit& pit) : pit_(pit) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;
    Name name_of(uint64_t offset, bool write) const override;

   private:
    Pit& pit_;
  };

  class Port61 final : public BusDevice {
   public:
    explicit Port61(Pit& pit) : pit_(pit) {}
    void read(uint64_t offset, std::span<std::byte> data) override;
    void write(uint64_t offset, std::span<const std::byte> data) override;

   private:
    Pit& pit_;
  };

  uint8_t read_counter(Counter& counter) REQUIRES(mutex_);
  void write_counter(size_t index, uint8_t value) REQUIRES(mutex_);
  void write_control(uint8_t value) REQUIRES(mutex_);
  void read_back(uint8_t command) REQUIRES(mutex_);
  void latch_count(Counter& counter) REQUIRES(mutex_);
  void latch_status(Counter& counter) REQUIRES(mutex_);
  void load(size_t index, uint16_t count) REQUIRES(mutex_);
  void start() REQUIRES(mutex_);
  uint8_t read_port_61() const REQUIRES(mutex_);
  void write_port_61(uint8_t value) REQUIRES(mutex_);

  InterruptLine& line_;
  const Wires wires_;
  CounterPorts counter_ports_{*this};
  Port61 port_61_{*this};

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  bool started_ GUARDED_BY(mutex_) = false;
  bool wanted_ GUARDED_BY(mutex_) = false;  // this access needs a running counter
  // The time at which the count of counter 0 ends, if the guest has set mode 0 with the count 0;
  // otherwise 0.
  std::chrono::nanoseconds last_interrupt_ GUARDED_BY(mutex_){0};
};

}  // namespace wick::devices
