#include "devices/i8042.h"

#include <algorithm>
#include <utility>

#include "devices/ps2_scan_codes.h"

namespace wick::devices {

namespace {

// Bits of the status port. Bit 1 (input buffer full) is never set, because commands
// complete at once.
constexpr uint8_t kOutputFull = 0x01;
constexpr uint8_t kSystemFlag = 0x04;  // the self test has passed
constexpr uint8_t kLastWasCommand = 0x08;
constexpr uint8_t kNotInhibited = 0x10;     // the keyboard is not locked
constexpr uint8_t kAuxiliaryOutput = 0x20;  // with kOutputFull: the byte is the mouse's

constexpr uint8_t kReadRam = 0x20;  // 0x20 to 0x3f: each reads one byte
constexpr uint8_t kReadCommandByte = kReadRam;
constexpr uint8_t kWriteRam = 0x60;  // 0x60 to 0x7f: each writes one byte
constexpr uint8_t kWriteCommandByte = kWriteRam;
constexpr uint8_t kDisableAuxiliary = 0xa7;
constexpr uint8_t kEnableAuxiliary = 0xa8;
constexpr uint8_t kTestAuxiliary = 0xa9;
constexpr uint8_t kSelfTest = 0xaa;
constexpr uint8_t kTestKeyboard = 0xab;
constexpr uint8_t kDisableKeyboard = 0xad;
constexpr uint8_t kEnableKeyboard = 0xae;
constexpr uint8_t kReadInputPort = 0xc0;
constexpr uint8_t kReadOutputPort = 0xd0;
constexpr uint8_t kWriteOutputPort = 0xd1;
constexpr uint8_t kWriteKeyboardOutput = 0xd2;
constexpr uint8_t kWriteAuxiliaryOutput = 0xd3;
constexpr uint8_t kWriteAuxiliary = 0xd4;
constexpr uint8_t kCloseA20 = 0xdd;
constexpr uint8_t kOpenA20 = 0xdf;
constexpr uint8_t kPulseOutputPort = 0xf0;  // 0xf0 to 0xff: pulses low each line whose bit is 0

constexpr uint8_t kRamIndex = 0x1f;  // bits of kReadRam and kWriteRam: the byte's index

constexpr uint8_t kSelfTestPassed = 0x55;
constexpr uint8_t kPortTestPassed = 0x00;
constexpr uint8_t kClockStuckLow = 0x01;  // result of a port test without a device

// Bits of the command byte.
constexpr uint8_t kKeyboardInterrupt = 0x01;
constexpr uint8_t kAuxiliaryInterrupt = 0x02;
constexpr uint8_t kKeyboardOff = 0x10;
constexpr uint8_t kAuxiliaryOff = 0x20;
constexpr uint8_t kTranslate = 0x40;

// Bits of the output port. A reset line of 0 resets the CPU.
constexpr uint8_t kResetLine = 0x01;
constexpr uint8_t kGateA20 = 0x02;
// The guest can only read these two bits.
constexpr uint8_t kKeyboardByteWaits = 0x10;
constexpr uint8_t kMouseByteWaits = 0x20;

constexpr uint8_t kInputPort = 0x80;  // the bits of the input port: the keyboard is not locked

}  // namespace

// The bus passes single bytes only, because each port is alone in its range.
void I8042::DataPort::read(uint64_t /*offset*/, std::span<std::byte> data) {
  const MutexLock lock(chip_.mutex_);
  std::ranges::fill(data, std::byte{chip_.read_data()});
}

void I8042::DataPort::write(uint64_t /*offset*/, std::span<const std::byte> data) {
  bool reset = false;
  {
    const MutexLock lock(chip_.mutex_);
    reset = chip_.data(std::to_integer<uint8_t>(data.front()));
    chip_.state_.last_was_command = false;
    chip_.update();
  }
  if (reset) chip_.on_reset_();
}

BusDevice::Name I8042::DataPort::name_of(uint64_t /*offset*/, bool /*write*/) const {
  return {"data", {}};
}

void I8042::CommandPort::read(uint64_t /*offset*/, std::span<std::byte> data) {
  const MutexLock lock(chip_.mutex_);
  std::ranges::fill(data, std::byte{chip_.status()});
}

void I8042::CommandPort::write(uint64_t /*offset*/, std::span<const std::byte> data) {
  bool reset = false;
  {
    const MutexLock lock(chip_.mutex_);
    reset = chip_.command(std::to_integer<uint8_t>(data.front()));
    chip_.state_.last_was_command = true;
    chip_.update();
  }
  if (reset) chip_.on_reset_();
}

BusDevice::Name I8042::CommandPort::name_of(uint64_t /*offset*/, bool write) const {
  return {write ? "command" : "status", {}};
}

I8042::~I8042() {
  for (Ps2Device* const device : {keyboard_, mouse_})
    if (device != nullptr) device->connect({});
}

void I8042::plug(Ps2Device* keyboard, Ps2Device* mouse, InterruptLine& irq1, InterruptLine& irq12) {
  keyboard_ = keyboard;
  mouse_ = mouse;
  irq1_ = &irq1;
  irq12_ = &irq12;
  for (Ps2Device* const device : {keyboard_, mouse_})
    if (device != nullptr) device->connect([this] { on_device_data(); });
}

uint8_t I8042::status() const {
  const uint8_t full = state_.output_full ? kOutputFull : 0;
  if (!plugged()) return kSystemFlag | kNotInhibited | full;
  const bool mouse = state_.output_full && state_.output_source == Source::kMouse;
  return static_cast<uint8_t>(full | (state_.command_byte & kSystemFlag) |
                              (state_.last_was_command ? kLastWasCommand : 0) | kNotInhibited |
                              (mouse ? kAuxiliaryOutput : 0));
}

// Takes the byte from the output buffer. If there is no new byte, returns the last one again.
uint8_t I8042::read_data() {
  const uint8_t value = state_.output;
  state_.output_full = false;
  update_lines();
  update();
  return value;
}

// Returns true if the command pulsed the reset line.
bool I8042::command(uint8_t value) {
  state_.pending_command = 0;
  switch (value) {
    case kReadCommandByte:
      reply(state_.command_byte);
      break;
    case kWriteCommandByte:
    case kWriteOutputPort:
    case kWriteKeyboardOutput:
    case kWriteAuxiliaryOutput:
      state_.pending_command = value;
      break;
    case kDisableAuxiliary:
      state_.command_byte |= kAuxiliaryOff;
      break;
    case kEnableAuxiliary:
      state_.command_byte &= static_cast<uint8_t>(~kAuxiliaryOff);
      break;
    case kDisableKeyboard:
      state_.command_byte |= kKeyboardOff;
      break;
    case kEnableKeyboard:
      state_.command_byte &= static_cast<uint8_t>(~kKeyboardOff);
      break;
    case kTestAuxiliary:
      reply(mouse_ != nullptr ? kPortTestPassed : kClockStuckLow);
      break;
    case kTestKeyboard:
      reply(keyboard_ != nullptr ? kPortTestPassed : kClockStuckLow);
      break;
    case kSelfTest:
      if (plugged()) state_.command_byte |= kSystemFlag;
      reply(kSelfTestPassed);
      break;
    case kReadOutputPort:
      reply(read_output_port());
      break;
    default:
      if (value >= kPulseOutputPort) return (value & kResetLine) == 0;
      if (plugged()) plugged_command(value);
  }
  return false;
}

// Executes the commands that do nothing while no device is plugged in.
void I8042::plugged_command(uint8_t value) {
  if (value >= kReadRam && value <= (kReadRam | kRamIndex))
    return reply(state_.ram[value & kRamIndex]);
  if (value >= kWriteRam && value <= (kWriteRam | kRamIndex)) {
    state_.pending_command = value;
    return;
  }
  switch (value) {
    case kReadInputPort:
      return reply(kInputPort);
    case kWriteAuxiliary:
      state_.pending_command = value;
      return;
    case kCloseA20:
      state_.output_port &= static_cast<uint8_t>(~kGateA20);
      return;
    case kOpenA20:
      state_.output_port |= kGateA20;
      return;
    default:
      return;
  }
}

bool I8042::data(uint8_t value) {
  const uint8_t pending = std::exchange(state_.pending_command, uint8_t{0});
  switch (pending) {
    case kWriteCommandByte:
      state_.command_byte = value;
      break;
    case kWriteOutputPort:
      state_.output_port = value;
      return (value & kResetLine) == 0;
    case kWriteKeyboardOutput:
      reply(value, Source::kKeyboard);
      break;
    case kWriteAuxiliaryOutput:
      // Without a mouse, the byte is returned as if it came from the keyboard. An operating
      // system sees by this that there is no auxiliary port.
      reply(value, mouse_ != nullptr ? Source::kMouse : Source::kKeyboard);
      break;
    case kWriteAuxiliary:
      // A byte for a device enables its port, because the device has to answer.
      if (mouse_ == nullptr) break;
      state_.command_byte &= static_cast<uint8_t>(~kAuxiliaryOff);
      mouse_->write(value);
      break;
    case 0:
      if (keyboard_ == nullptr) break;
      state_.command_byte &= static_cast<uint8_t>(~kKeyboardOff);
      keyboard_->write(value);
      break;
    default:  // the pending command is kWriteRam
      state_.ram[pending & kRamIndex] = value;
      break;
  }
  return false;
}

uint8_t I8042::read_output_port() const {
  if (!plugged()) return kResetLine | kGateA20;
  constexpr uint8_t kWritten = static_cast<uint8_t>(~(kKeyboardByteWaits | kMouseByteWaits));
  const bool mouse = state_.output_source == Source::kMouse;
  const uint8_t waits = mouse ? kMouseByteWaits : kKeyboardByteWaits;
  return static_cast<uint8_t>((state_.output_port & kWritten) | (state_.output_full ? waits : 0));
}

void I8042::reply(uint8_t value, Source source) {
  if (!plugged()) return put(value, source);
  if (state_.replies.size() < kMaxReplies) state_.replies.push_back({value, source});
}

void I8042::on_device_data() {
  const MutexLock lock(mutex_);
  update();
}

// Fills the output buffer if it is empty and there is a byte for it.
void I8042::update() {
  if (!plugged()) return;
  if (!state_.output_full) {
    if (!state_.replies.empty()) {
      const Reply first = state_.replies.front();
      state_.replies.pop_front();
      put(first.byte, first.source);
    } else if (!take_from_keyboard()) {
      take_from_mouse();
    }
  }
  update_lines();
}

bool I8042::take_from_keyboard() {
  if (keyboard_ == nullptr || (state_.command_byte & kKeyboardOff) != 0) return false;
  auto byte = keyboard_->read();
  if (!byte) return false;
  if ((state_.command_byte & kTranslate) != 0) {
    // The keyboard queues whole sequences, so the released key's code can be read at once.
    uint8_t released = 0;
    if (*byte == kScanBreak) {
      released = 0x80;
      byte = keyboard_->read();
      if (!byte) return false;
    }
    byte = static_cast<uint8_t>(to_set1(*byte) | released);
  }
  put(*byte, Source::kKeyboard);
  return true;
}

void I8042::take_from_mouse() {
  if (mouse_ == nullptr || (state_.command_byte & kAuxiliaryOff) != 0) return;
  if (const auto byte = mouse_->read()) put(*byte, Source::kMouse);
}

void I8042::put(uint8_t value, Source source) {
  state_.output = value;
  state_.output_full = true;
  state_.output_source = source;
}

// IRQ 12 is high while a byte of the mouse waits, IRQ 1 while any other byte waits, if the guest
// has enabled the interrupt. Disabling the keyboard also disables IRQ 1: a guest that does this
// reads the replies without an interrupt.
void I8042::update_lines() {
  if (!plugged()) return;
  const bool mouse = state_.output_source == Source::kMouse;
  const uint8_t enabled = state_.command_byte;
  const bool keyboard_line = state_.output_full && !mouse && (enabled & kKeyboardInterrupt) != 0 &&
                             (enabled & kKeyboardOff) == 0;
  const bool mouse_line = state_.output_full && mouse && (enabled & kAuxiliaryInterrupt) != 0;
  if (keyboard_line && !state_.keyboard_line) irq1_->pulse();
  if (mouse_line && !state_.mouse_line) irq12_->pulse();
  state_.keyboard_line = keyboard_line;
  state_.mouse_line = mouse_line;
}

I8042::State I8042::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

}  // namespace wick::devices
