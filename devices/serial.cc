#include "devices/serial.h"

#include <linux/serial_reg.h>

#include <algorithm>
#include <utility>

namespace wick::devices {

namespace {

// The names of the registers, whose offsets are UART_RX to UART_SCR (8.0, table II). While DLAB is
// set, the first two registers are the low and the high byte of the divisor.
constexpr std::array<const char*, Serial::kPorts> kReadNames = {"RBR", "IER", "IIR", "LCR",
                                                                "MCR", "LSR", "MSR", "SCR"};
constexpr std::array<const char*, Serial::kPorts> kWriteNames = {"THR", "IER", "FCR", "LCR",
                                                                 "MCR", "LSR", "MSR", "SCR"};

// The bits that IER has (8.6).
constexpr uint8_t kInterruptEnableBits =
    UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI;
// Bits of IIR (8.5).
constexpr uint8_t kFifosEnabled = 0xc0;
// Bits of FCR that clear themselves (8.4).
constexpr uint8_t kFifoClearBits = UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT;
// The trigger levels of the receiver FIFO, by the two highest bits of FCR (8.4).
constexpr std::array<uint8_t, 4> kTriggerLevels = {1, 4, 8, 14};
// The bits that MCR has (8.7).
constexpr uint8_t kModemControlBits = 0x1f;

// Modem status (8.8): the upper half has the lines, the lower half their changes
// (deltas) since the last read.
constexpr uint8_t kModemLines = UART_MSR_DCD | UART_MSR_RI | UART_MSR_DSR | UART_MSR_CTS;

}  // namespace

void Serial::read(uint64_t offset, std::span<std::byte> data) {
  bool wanted = false;
  {
    const MutexLock lock(mutex_);
    for (std::byte& byte : data) byte = std::byte{read_register(offset++)};
    wanted = finish_access();
  }
  if (wanted) backend_.input_wanted();
}

void Serial::write(uint64_t offset, std::span<const std::byte> data) {
  bool wanted = false;
  {
    const MutexLock lock(mutex_);
    for (const std::byte byte : data) write_register(offset++, std::to_integer<uint8_t>(byte));
    wanted = finish_access();
  }
  if (wanted) backend_.input_wanted();
}

BusDevice::Name Serial::name_of(uint64_t offset, bool write) const {
  return {(write ? kWriteNames : kReadNames)[offset], {}};
}

size_t Serial::input(std::span<const std::byte> bytes) {
  const MutexLock lock(mutex_);
  const auto taken = bytes.first(std::min(room(), bytes.size()));
  for (const std::byte byte : taken) receive({std::to_integer<uint8_t>(byte), false});
  if (taken.size() < bytes.size()) input_refused_ = true;
  update_line();
  return taken.size();
}

void Serial::send_break() {
  const MutexLock lock(mutex_);
  if (room() == 0) {
    break_waiting_ = true;
    return;
  }
  receive({0, true});
  update_line();
}

Serial::State Serial::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

uint8_t Serial::read_register(uint64_t offset) {
  switch (offset) {
    case UART_RX:
      return divisor_latch_open() ? static_cast<uint8_t>(state_.divisor) : take_received();
    case UART_IER:
      return divisor_latch_open() ? static_cast<uint8_t>(state_.divisor >> 8)
                                  : state_.interrupt_enable;
    case UART_IIR: {
      const uint8_t id = interrupt_identification();
      // Reading IIR clears the THRE interrupt, if IIR reports it and no interrupt of
      // higher priority (table IV).
      if (id == UART_IIR_THRI) state_.transmitter_interrupt = false;
      return (state_.fifo_control & UART_FCR_ENABLE_FIFO) != 0 ? id | kFifosEnabled : id;
    }
    case UART_LCR:
      return state_.line_control;
    case UART_MCR:
      return state_.modem_control;
    case UART_LSR: {
      const uint8_t status = line_status();
      state_.overrun = false;
      state_.received[0].is_break = false;
      return status;
    }
    case UART_MSR: {
      const uint8_t status = state_.modem_status;
      state_.modem_status &= kModemLines;
      return status;
    }
    case UART_SCR:
      return state_.scratch;
    default:
      return 0xff;
  }
}

void Serial::write_register(uint64_t offset, uint8_t value) {
  switch (offset) {
    case UART_TX:
      if (divisor_latch_open()) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0xff00) | value);
      } else {
        transmit(value);
      }
      break;
    case UART_IER:
      if (divisor_latch_open()) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0x00ff) | value << 8);
        break;
      }
      // Enabling the THRE interrupt while THR is empty (here it always is) raises the
      // interrupt. Drivers start a transmission this way.
      if ((value & ~state_.interrupt_enable & UART_IER_THRI) != 0) {
        state_.transmitter_interrupt = true;
      }
      state_.interrupt_enable = value & kInterruptEnableBits;
      break;
    case UART_FCR:
      write_fifo_control(value);
      break;
    case UART_LCR:
      state_.line_control = value;
      break;
    case UART_MCR:
      write_modem_control(value);
      break;
    case UART_SCR:
      state_.scratch = value;
      break;
    default:  // the status registers are read-only
      break;
  }
}

void Serial::transmit(uint8_t byte) {
  if (loopback()) {
    receive({byte, false});
  } else {
    const std::byte out{byte};
    backend_.write({&out, 1});
  }
  state_.transmitter_interrupt = true;  // THR was filled and is empty again
}

void Serial::receive(Received received) {
  if (state_.received_count < capacity()) {
    state_.received[state_.received_count++] = received;
    return;
  }
  // With FIFOs the new character is lost; without FIFOs it overwrites RBR (8.3, bit 1).
  state_.overrun = true;
  if ((state_.fifo_control & UART_FCR_ENABLE_FIFO) == 0) state_.received[0] = received;
}

uint8_t Serial::take_received() {
  if (state_.received_count == 0) return 0;
  const uint8_t byte = state_.received[0].byte;
  std::shift_left(state_.received.begin(), state_.received.end(), 1);
  state_.received[--state_.received_count] = {};
  return byte;
}

void Serial::write_fifo_control(uint8_t value) {
  // FCR0 must be 1 for the other bits to be programmed (8.4, bit 0).
  if ((value & UART_FCR_ENABLE_FIFO) == 0) value = 0;
  const bool toggled = ((value ^ state_.fifo_control) & UART_FCR_ENABLE_FIFO) != 0;
  if (toggled || (value & UART_FCR_CLEAR_RCVR) != 0) {
    state_.received = {};
    state_.received_count = 0;
  }
  // 8.10: a change of FCR0 raises the THRE interrupt at once.
  if (toggled) state_.transmitter_interrupt = true;
  state_.fifo_control = value & static_cast<uint8_t>(~kFifoClearBits);
}

void Serial::write_modem_control(uint8_t value) {
  state_.modem_control = value & kModemControlBits;
  uint8_t lines = UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
  if (loopback()) {
    lines = 0;
    if ((value & UART_MCR_RTS) != 0) lines |= UART_MSR_CTS;
    if ((value & UART_MCR_DTR) != 0) lines |= UART_MSR_DSR;
    if ((value & UART_MCR_OUT1) != 0) lines |= UART_MSR_RI;
    if ((value & UART_MCR_OUT2) != 0) lines |= UART_MSR_DCD;
  }
  // Each change of a line sets its delta bit, except that TERI (8.8, bit 2) is set only
  // by the trailing edge of RI.
  uint8_t changed = (state_.modem_status ^ lines) & kModemLines;
  if ((lines & UART_MSR_RI) != 0) changed &= static_cast<uint8_t>(~UART_MSR_RI);
  state_.modem_status =
      static_cast<uint8_t>(lines | (state_.modem_status & UART_MSR_ANY_DELTA) | changed >> 4);
}

uint8_t Serial::interrupt_identification() const {
  const uint8_t enabled = state_.interrupt_enable;
  if ((enabled & UART_IER_RLSI) != 0 && (state_.overrun || state_.received[0].is_break)) {
    return UART_IIR_RLSI;
  }
  if ((enabled & UART_IER_RDI) != 0 && state_.received_count > 0) {
    // Below the trigger level the chip reports a timeout after four character times
    // (8.10). Our line has no speed, so that time has always passed.
    const bool fifos = (state_.fifo_control & UART_FCR_ENABLE_FIFO) != 0;
    const bool below = state_.received_count < kTriggerLevels[state_.fifo_control >> 6];
    return fifos && below ? UART_IIR_RX_TIMEOUT : UART_IIR_RDI;
  }
  if ((enabled & UART_IER_THRI) != 0 && state_.transmitter_interrupt) return UART_IIR_THRI;
  if ((enabled & UART_IER_MSI) != 0 && (state_.modem_status & UART_MSR_ANY_DELTA) != 0) {
    return UART_IIR_MSI;
  }
  return UART_IIR_NO_INT;
}

uint8_t Serial::line_status() const {
  uint8_t status = UART_LSR_THRE | UART_LSR_TEMT;
  if (state_.received_count > 0) status |= UART_LSR_DR;
  if (state_.overrun) status |= UART_LSR_OE;
  // BI is set when the break character is at the top of the FIFO (8.3, bit 4); bit 7 is
  // set while there is a break anywhere in the FIFO.
  if (state_.received[0].is_break) status |= UART_LSR_BI;
  if ((state_.fifo_control & UART_FCR_ENABLE_FIFO) != 0 &&
      std::ranges::any_of(state_.received, &Received::is_break)) {
    status |= UART_LSR_FIFOE;
  }
  return status;
}

bool Serial::divisor_latch_open() const { return (state_.line_control & UART_LCR_DLAB) != 0; }

bool Serial::loopback() const { return (state_.modem_control & UART_MCR_LOOP) != 0; }

size_t Serial::capacity() const {
  return (state_.fifo_control & UART_FCR_ENABLE_FIFO) != 0 ? kFifoBytes : 1;
}

// Returns the number of bytes that the receiver can take from the line now.
size_t Serial::room() const {
  // In loopback the receiver is disconnected from the line (8.7). A waiting break must be
  // received before any later byte.
  return loopback() || break_waiting_ ? 0 : capacity() - state_.received_count;
}

void Serial::update_line() {
  const bool asserted = interrupt_identification() != UART_IIR_NO_INT;
  if (asserted == asserted_) return;
  asserted_ = asserted;
  line_.set(asserted);
}

// Called after each register access. Returns true if the caller must call Backend::input_wanted():
// once after input was refused, when the receiver is empty. A call for every free byte would wake
// the back end sixteen times as often.
bool Serial::finish_access() {
  const bool listening = state_.received_count == 0 && !loopback();
  if (listening && std::exchange(break_waiting_, false)) receive({0, true});
  update_line();
  return listening && state_.received_count == 0 && std::exchange(input_refused_, false);
}

}  // namespace wick::devices
