#include "devices/serial.h"

#include <algorithm>
#include <utility>

namespace wick::devices {

namespace {

// Register offsets (8.0, table II). While DLAB is set, the first two are the low and
// the high byte of the divisor.
constexpr uint64_t kData = 0;  // RBR when read, THR when written
constexpr uint64_t kInterruptEnable = 1;
constexpr uint64_t kInterruptIdentification = 2;  // FCR when written
constexpr uint64_t kLineControl = 3;
constexpr uint64_t kModemControl = 4;
constexpr uint64_t kLineStatus = 5;
constexpr uint64_t kModemStatus = 6;
constexpr uint64_t kScratch = 7;
constexpr std::array<const char*, Serial::kPorts> kReadNames = {"RBR", "IER", "IIR", "LCR",
                                                                "MCR", "LSR", "MSR", "SCR"};
constexpr std::array<const char*, Serial::kPorts> kWriteNames = {"THR", "IER", "FCR", "LCR",
                                                                 "MCR", "LSR", "MSR", "SCR"};

// Interrupt enable (8.6).
constexpr uint8_t kEnableReceived = 0x01;
constexpr uint8_t kEnableTransmitter = 0x02;
constexpr uint8_t kEnableLineStatus = 0x04;
constexpr uint8_t kEnableModemStatus = 0x08;
constexpr uint8_t kEnableBits = 0x0f;

// Interrupt identification (8.5, table IV), highest priority first.
constexpr uint8_t kIdLineStatus = 0x06;
constexpr uint8_t kIdReceived = 0x04;
constexpr uint8_t kIdTimeout = 0x0c;
constexpr uint8_t kIdTransmitter = 0x02;
constexpr uint8_t kIdModemStatus = 0x00;
constexpr uint8_t kIdNone = 0x01;
constexpr uint8_t kIdFifosEnabled = 0xc0;

// FIFO control (8.4).
constexpr uint8_t kFifoEnable = 0x01;
constexpr uint8_t kFifoClearReceiver = 0x02;
constexpr uint8_t kFifoClearBits = 0x06;  // self-clearing
constexpr std::array<uint8_t, 4> kTriggerLevels = {1, 4, 8, 14};

constexpr uint8_t kDivisorLatchAccess = 0x80;  // of line control (8.1)

// Line status (8.3).
constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kOverrun = 0x02;
constexpr uint8_t kBreak = 0x10;
constexpr uint8_t kTransmitterIdle = 0x60;  // THRE and TEMT
constexpr uint8_t kErrorInFifo = 0x80;

// Modem control (8.7).
constexpr uint8_t kDtr = 0x01;
constexpr uint8_t kRts = 0x02;
constexpr uint8_t kOut1 = 0x04;
constexpr uint8_t kOut2 = 0x08;
constexpr uint8_t kLoop = 0x10;
constexpr uint8_t kModemControlBits = 0x1f;

// Modem status (8.8): the upper half has the lines, the lower half their changes
// (deltas) since the last read.
constexpr uint8_t kCts = 0x10;
constexpr uint8_t kDsr = 0x20;
constexpr uint8_t kRi = 0x40;
constexpr uint8_t kDcd = 0x80;
constexpr uint8_t kModemLines = 0xf0;
constexpr uint8_t kModemDeltas = 0x0f;

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
    case kData:
      return divisor_latch_open() ? static_cast<uint8_t>(state_.divisor) : take_received();
    case kInterruptEnable:
      return divisor_latch_open() ? static_cast<uint8_t>(state_.divisor >> 8)
                                  : state_.interrupt_enable;
    case kInterruptIdentification: {
      const uint8_t id = interrupt_identification();
      // Reading IIR clears the THRE interrupt, if IIR reports it and no interrupt of
      // higher priority (table IV).
      if (id == kIdTransmitter) state_.transmitter_interrupt = false;
      return (state_.fifo_control & kFifoEnable) != 0 ? id | kIdFifosEnabled : id;
    }
    case kLineControl:
      return state_.line_control;
    case kModemControl:
      return state_.modem_control;
    case kLineStatus: {
      const uint8_t status = line_status();
      state_.overrun = false;
      state_.received[0].is_break = false;
      return status;
    }
    case kModemStatus: {
      const uint8_t status = state_.modem_status;
      state_.modem_status &= kModemLines;
      return status;
    }
    case kScratch:
      return state_.scratch;
    default:
      return 0xff;
  }
}

void Serial::write_register(uint64_t offset, uint8_t value) {
  switch (offset) {
    case kData:
      if (divisor_latch_open()) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0xff00) | value);
      } else {
        transmit(value);
      }
      break;
    case kInterruptEnable:
      if (divisor_latch_open()) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0x00ff) | value << 8);
        break;
      }
      // Enabling the THRE interrupt while THR is empty (here it always is) raises the
      // interrupt. Drivers start a transmission this way.
      if ((value & ~state_.interrupt_enable & kEnableTransmitter) != 0) {
        state_.transmitter_interrupt = true;
      }
      state_.interrupt_enable = value & kEnableBits;
      break;
    case kInterruptIdentification:
      write_fifo_control(value);
      break;
    case kLineControl:
      state_.line_control = value;
      break;
    case kModemControl:
      write_modem_control(value);
      break;
    case kScratch:
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
  // With FIFOs the new character is lost; without, it overwrites RBR (8.3, bit 1).
  state_.overrun = true;
  if ((state_.fifo_control & kFifoEnable) == 0) state_.received[0] = received;
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
  if ((value & kFifoEnable) == 0) value = 0;
  const bool toggled = ((value ^ state_.fifo_control) & kFifoEnable) != 0;
  if (toggled || (value & kFifoClearReceiver) != 0) {
    state_.received = {};
    state_.received_count = 0;
  }
  // 8.10: the THRE interrupt is immediate after a change of FCR0.
  if (toggled) state_.transmitter_interrupt = true;
  state_.fifo_control = value & static_cast<uint8_t>(~kFifoClearBits);
}

void Serial::write_modem_control(uint8_t value) {
  state_.modem_control = value & kModemControlBits;
  uint8_t lines = kDcd | kDsr | kCts;
  if (loopback()) {
    lines = 0;
    if ((value & kRts) != 0) lines |= kCts;
    if ((value & kDtr) != 0) lines |= kDsr;
    if ((value & kOut1) != 0) lines |= kRi;
    if ((value & kOut2) != 0) lines |= kDcd;
  }
  // Each change of a line sets its delta bit, except that TERI (8.8, bit 2) is set only
  // by the trailing edge of RI.
  uint8_t changed = (state_.modem_status ^ lines) & kModemLines;
  if ((lines & kRi) != 0) changed &= static_cast<uint8_t>(~kRi);
  state_.modem_status =
      static_cast<uint8_t>(lines | (state_.modem_status & kModemDeltas) | changed >> 4);
}

uint8_t Serial::interrupt_identification() const {
  const uint8_t enabled = state_.interrupt_enable;
  if ((enabled & kEnableLineStatus) != 0 && (state_.overrun || state_.received[0].is_break)) {
    return kIdLineStatus;
  }
  if ((enabled & kEnableReceived) != 0 && state_.received_count > 0) {
    // Below the trigger level the chip reports a timeout after four character times
    // (8.10). Our line has no speed, so that time has always passed.
    const bool fifos = (state_.fifo_control & kFifoEnable) != 0;
    const bool below = state_.received_count < kTriggerLevels[state_.fifo_control >> 6];
    return fifos && below ? kIdTimeout : kIdReceived;
  }
  if ((enabled & kEnableTransmitter) != 0 && state_.transmitter_interrupt) return kIdTransmitter;
  if ((enabled & kEnableModemStatus) != 0 && (state_.modem_status & kModemDeltas) != 0) {
    return kIdModemStatus;
  }
  return kIdNone;
}

uint8_t Serial::line_status() const {
  uint8_t status = kTransmitterIdle;
  if (state_.received_count > 0) status |= kDataReady;
  if (state_.overrun) status |= kOverrun;
  // BI is set when the break character is at the top of the FIFO (8.3, bit 4); bit 7 is
  // set while there is a break anywhere in the FIFO.
  if (state_.received[0].is_break) status |= kBreak;
  if ((state_.fifo_control & kFifoEnable) != 0 &&
      std::ranges::any_of(state_.received, &Received::is_break)) {
    status |= kErrorInFifo;
  }
  return status;
}

bool Serial::divisor_latch_open() const { return (state_.line_control & kDivisorLatchAccess) != 0; }

bool Serial::loopback() const { return (state_.modem_control & kLoop) != 0; }

size_t Serial::capacity() const {
  return (state_.fifo_control & kFifoEnable) != 0 ? kFifoBytes : 1;
}

// The number of bytes that the receiver can take from the line now.
size_t Serial::room() const {
  // In loopback the receiver is disconnected from the line (8.7). A waiting break must be
  // received before any later byte.
  return loopback() || break_waiting_ ? 0 : capacity() - state_.received_count;
}

void Serial::update_line() {
  const bool asserted = interrupt_identification() != kIdNone;
  if (asserted == asserted_) return;
  asserted_ = asserted;
  line_.set(asserted);
}

// Called after each register access. Returns true if the caller must call
// Backend::input_wanted(): once after input was refused, and only when the receiver is
// empty, because a call for every free byte would wake the back end sixteen times as
// often.
bool Serial::finish_access() {
  const bool listening = state_.received_count == 0 && !loopback();
  if (listening && std::exchange(break_waiting_, false)) receive({0, true});
  update_line();
  return listening && state_.received_count == 0 && std::exchange(input_refused_, false);
}

}  // namespace wick::devices
