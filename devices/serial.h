// The serial port of a PC: a 16550A with its two 16-byte FIFOs.
//
// The line behind it is infinitely fast: a byte written to the transmitter is
// with the back end before the write returns, so THRE and TEMT are always set
// and the guest never waits. The other way the chip takes only what fits and
// refuses the rest (console::Guest), and a BREAK waits until it fits, so input
// of any length loses nothing; only a guest in loopback can overrun itself.
//
// Thread rule: registers from any vCPU thread, input() and send_break() from
// the console's loop; one mutex guards all. Under it are called
// Backend::write and InterruptLine::set, so that bytes and levels leave in the
// order in which they came about; neither may call back into the chip.
// Backend::input_wanted is called outside it.
//
// Specification: PC16550D data sheet (National Semiconductor, June 1995),
// section 8; cited below by its numbers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "base/bus.h"
#include "base/interrupt.h"
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

  // What the guest can see, at power-on.
  struct State {
    uint8_t interrupt_enable = 0;
    uint8_t fifo_control = 0;
    uint8_t line_control = 0;
    uint8_t modem_control = 0;
    uint8_t modem_status = 0xb0;  // a modem that is there and ready: DCD, DSR, CTS
    uint8_t scratch = 0;
    uint16_t divisor = 12;               // 9600 baud. Linux divides by what it finds here
    bool transmitter_interrupt = false;  // the empty holding register was not reported yet
    bool overrun = false;
    std::array<Received, kFifoBytes> received = {};  // oldest first
    uint8_t received_count = 0;
    bool operator==(const State&) const = default;
  };

  // Both must outlive the chip; who makes it also calls backend.connect(chip).
  Serial(console::Backend& backend, InterruptLine& line) : backend_(backend), line_(line) {}

  // The chip has eight data lines: a wider access is one to each port in turn.
  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

  size_t input(std::span<const std::byte> bytes) override;
  void send_break() override;

  State state() const;

 private:
  uint8_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint8_t value);
  void transmit(uint8_t byte);
  void receive(Received received);
  uint8_t take_received();
  void write_fifo_control(uint8_t value);
  void write_modem_control(uint8_t value);
  uint8_t interrupt_identification() const;
  uint8_t line_status() const;
  bool divisor_latch_open() const;
  bool loopback() const;
  size_t capacity() const;
  size_t room() const;
  void update_line();
  bool settle();

  console::Backend& backend_;
  InterruptLine& line_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  State state_;
  bool asserted_ = false;       // what line_ was told last
  bool input_refused_ = false;  // the back end holds input that did not fit
  bool break_waiting_ = false;  // the line is held low until there is room
};

}  // namespace wick::devices
