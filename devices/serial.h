// The serial port of a PC: a 16550A with its two 16-byte FIFOs.
//
// The transmitter is infinitely fast: a byte written to THR is in the back end before
// the write returns, so THRE and TEMT are always set and the guest never waits. The
// receiver takes only the bytes that fit and refuses the rest (console::Guest), and a
// BREAK waits until there is room, so no input is lost. An overrun is possible only
// in loopback mode.
//
// Thread rule: any vCPU thread accesses the registers; the console's loop calls
// input() and send_break(). One mutex guards everything. Backend::write and
// InterruptLine::set are called with the mutex held, so that bytes and levels keep
// their order; neither may call back into the chip. Backend::input_wanted is called
// without the mutex.
//
// Specification: PC16550D data sheet (National Semiconductor, June 1995),
// section 8; the code cites its section numbers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bus.h"
#include "base/interrupt.h"
#include "base/mutex.h"
#include "console/backend.h"

namespace wick::devices {

class Serial final : public BusDevice, public console::Guest {
 public:
  static constexpr uint64_t kPorts = 8;
  static constexpr size_t kFifoBytes = 16;

  struct Received {
    uint8_t byte = 0;
    bool is_break = false;
    bool operator==(const Received&) const = default;
  };

  // The guest-visible state, with its values at power-on.
  struct State {
    uint8_t interrupt_enable = 0;
    uint8_t fifo_control = 0;
    uint8_t line_control = 0;
    uint8_t modem_control = 0;
    uint8_t modem_status = 0xb0;  // DCD, DSR and CTS: a modem is connected and ready
    uint8_t scratch = 0;
    uint16_t divisor = 12;               // 9600 baud; not 0, because Linux divides by it
    bool transmitter_interrupt = false;  // the THRE interrupt is pending
    bool overrun = false;
    std::array<Received, kFifoBytes> received = {};  // the oldest is first
    uint8_t received_count = 0;
    bool operator==(const State&) const = default;
  };

  // `backend` and `line` must outlive the chip. The caller must also call backend.connect(chip).
  Serial(console::Backend& backend, InterruptLine& line) : backend_(backend), line_(line) {}

  // The chip has eight data lines: a wider access is split into one access per port.
  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  size_t input(std::span<const std::byte> bytes) override;
  void send_break() override;

  State state() const;

 private:
  uint8_t read_register(uint64_t offset) REQUIRES(mutex_);
  void write_register(uint64_t offset, uint8_t value) REQUIRES(mutex_);
  void transmit(uint8_t byte) REQUIRES(mutex_);
  void receive(Received received) REQUIRES(mutex_);
  uint8_t take_received() REQUIRES(mutex_);
  void write_fifo_control(uint8_t value) REQUIRES(mutex_);
  void write_modem_control(uint8_t value) REQUIRES(mutex_);
  uint8_t interrupt_identification() const REQUIRES(mutex_);
  uint8_t line_status() const REQUIRES(mutex_);
  bool divisor_latch_open() const REQUIRES(mutex_);
  bool loopback() const REQUIRES(mutex_);
  size_t capacity() const REQUIRES(mutex_);
  size_t room() const REQUIRES(mutex_);
  void update_line() REQUIRES(mutex_);
  bool finish_access() REQUIRES(mutex_);

  console::Backend& backend_;
  InterruptLine& line_;

  mutable Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  // The last level set on line_.
  bool asserted_ GUARDED_BY(mutex_) = false;
  // The back end holds input that did not fit.
  bool input_refused_ GUARDED_BY(mutex_) = false;
  // A BREAK waits until there is room for it.
  bool break_waiting_ GUARDED_BY(mutex_) = false;
};

}  // namespace wick::devices
