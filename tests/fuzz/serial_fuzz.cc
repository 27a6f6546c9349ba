// A guest and a console that do anything to the serial port. After each step: the interrupt line
// is up exactly if an enabled interrupt is pending, and the IIR agrees; an accepted byte comes
// out once and in order, unless the guest discarded it; the step sets the line at most once.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "devices/serial.h"
#include "tests/fakes/counting_line.h"
#include "tests/fakes/fake_console.h"
#include "tests/fuzz/harness.h"

namespace {

using wick::devices::Serial;
using wick::fuzz::require;

class Bench {
 public:
  Bench() { console_.connect(serial_); }

  void step(uint8_t action, uint8_t value) {
    const uint64_t port = action & 7;
    const size_t width = size_t{1} << (action >> 3 & 3);
    switch (action >> 6) {
      case 0:
        read(port, width);
        break;
      case 1:
        write(port, width, value);
        break;
      case 2:
        type(value);
        break;
      default:
        console_.send_break();
        check();
        break;
    }
  }

  // Whatever happened, a driver can read everything, and then the line goes down.
  void finish() {
    write(4, 1, 0x00);
    write(3, 1, 0x03);
    write(1, 1, 0x0f);
    for (int i = 0; i < 100 && line_.level(); ++i) {
      for (const uint64_t port : {2u, 5u, 0u, 6u}) read(port, 1);
    }
    require(!line_.level());
    require(serial_.state().received_count == 0);
    require(console_.type("x") == 1);
  }

 private:
  // The data sheet's table IV, written independently of devices/serial.
  static bool pending(const Serial::State& state) {
    const auto enabled = [&](uint8_t bit) { return (state.interrupt_enable & bit) != 0; };
    return (enabled(1) && state.received_count > 0) ||
           (enabled(2) && state.transmitter_interrupt) ||
           (enabled(4) && (state.overrun || state.received[0].is_break)) ||
           (enabled(8) && (state.modem_status & 0x0f) != 0);
  }

  void read(uint64_t port, size_t width) {
    const Serial::State before = serial_.state();
    std::array<std::byte, 8> data;
    serial_.read(port, std::span(data).first(width));
    check();
    if (port == 2) require(pending(before) == ((data[0] & std::byte{1}) == std::byte{0}));
    if (port == 0 && (before.line_control & 0x80) == 0 && before.received_count > 0) {
      require(data[0] == std::byte{before.received[0].byte});
      const Serial::State after = serial_.state();
      // Past the first the rest moved up; a break that waited may have followed.
      for (size_t i = 1; i < before.received_count; ++i) {
        require(after.received[i - 1].byte == before.received[i].byte);
      }
    }
  }

  void write(uint64_t port, size_t width, uint8_t value) {
    std::array<std::byte, 8> data;
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(value + i * 0x35);
    serial_.write(port, std::span(data).first(width));
    check();
  }

  void type(uint8_t length) {
    const Serial::State before = serial_.state();
    const std::string text(length, static_cast<char>(length));
    const size_t taken = console_.type(text);
    check();
    const Serial::State after = serial_.state();
    require(taken <= text.size());
    require(after.received_count == before.received_count + taken);
    require(after.overrun == before.overrun);
  }

  void check() {
    const Serial::State state = serial_.state();
    require(state.received_count <= ((state.fifo_control & 1) != 0 ? Serial::kFifoBytes : 1));
    for (size_t i = state.received_count; i < Serial::kFifoBytes; ++i) {
      require(state.received[i] == Serial::Received{});
    }
    require(line_.level() == pending(state));
    require(line_.sets() <= sets_ + 1);
    sets_ = line_.sets();
  }

  wick::fakes::FakeConsole console_;
  wick::fakes::CountingLine line_;
  Serial serial_{console_, line_};
  int sets_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bench bench;
  for (size_t i = 0; i + 1 < size; i += 2) bench.step(data[i], data[i + 1]);
  bench.finish();
  return 0;
}
