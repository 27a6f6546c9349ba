#include "devices/i8042.h"

#include <algorithm>
#include <utility>

namespace wick::devices {

namespace {

// Bits of the status port. Bit 1 (input buffer full) is never set, because commands
// complete at once.
constexpr uint8_t kOutputFull = 0x01;
constexpr uint8_t kSystemFlag = 0x04;    // the self test has passed
constexpr uint8_t kNotInhibited = 0x10;  // the keyboard is not locked

constexpr uint8_t kReadCommandByte = 0x20;
constexpr uint8_t kWriteCommandByte = 0x60;
constexpr uint8_t kDisableAuxiliary = 0xa7;
constexpr uint8_t kEnableAuxiliary = 0xa8;
constexpr uint8_t kTestAuxiliary = 0xa9;
constexpr uint8_t kSelfTest = 0xaa;
constexpr uint8_t kTestKeyboard = 0xab;
constexpr uint8_t kDisableKeyboard = 0xad;
constexpr uint8_t kEnableKeyboard = 0xae;
constexpr uint8_t kReadOutputPort = 0xd0;
constexpr uint8_t kWriteOutputPort = 0xd1;
constexpr uint8_t kWriteKeyboardOutput = 0xd2;
constexpr uint8_t kWriteAuxiliaryOutput = 0xd3;
constexpr uint8_t kPulseOutputPort = 0xf0;  // 0xf0 to 0xff: pulses low each line whose bit is 0

constexpr uint8_t kSelfTestPassed = 0x55;
constexpr uint8_t kClockStuckLow = 0x01;  // result of a port test without a device

constexpr uint8_t kKeyboardOff = 0x10;  // of the command byte
constexpr uint8_t kAuxiliaryOff = 0x20;

constexpr uint8_t kResetLine = 0x01;  // of the output port; 0 resets the CPU
constexpr uint8_t kGateA20 = 0x02;    // of the output port; always enabled

}  // namespace

// The bus passes single bytes only, because each port is alone in its range.
void I8042::DataPort::read(uint64_t /*offset*/, std::span<std::byte> data) {
  const MutexLock lock(chip_.mutex_);
  chip_.state_.output_full = false;
  std::ranges::fill(data, std::byte{chip_.state_.output});
}

void I8042::DataPort::write(uint64_t /*offset*/, std::span<const std::byte> data) {
  bool reset = false;
  {
    const MutexLock lock(chip_.mutex_);
    reset = chip_.data(std::to_integer<uint8_t>(data.front()));
  }
  if (reset) chip_.on_reset_();
}

BusDevice::Name I8042::DataPort::name_of(uint64_t /*offset*/, bool /*write*/) const {
  return {"data", {}};
}

void I8042::CommandPort::read(uint64_t /*offset*/, std::span<std::byte> data) {
  const MutexLock lock(chip_.mutex_);
  const uint8_t full = chip_.state_.output_full ? kOutputFull : 0;
  std::ranges::fill(data, std::byte{static_cast<uint8_t>(kSystemFlag | kNotInhibited | full)});
}

void I8042::CommandPort::write(uint64_t /*offset*/, std::span<const std::byte> data) {
  bool reset = false;
  {
    const MutexLock lock(chip_.mutex_);
    reset = chip_.command(std::to_integer<uint8_t>(data.front()));
  }
  if (reset) chip_.on_reset_();
}

BusDevice::Name I8042::CommandPort::name_of(uint64_t /*offset*/, bool write) const {
  return {write ? "command" : "status", {}};
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
    case kTestKeyboard:
      reply(kClockStuckLow);
      break;
    case kSelfTest:
      reply(kSelfTestPassed);
      break;
    case kReadOutputPort:
      reply(kResetLine | kGateA20);
      break;
    default:
      return value >= kPulseOutputPort && (value & kResetLine) == 0;
  }
  return false;
}

bool I8042::data(uint8_t value) {
  switch (std::exchange(state_.pending_command, 0)) {
    case kWriteCommandByte:
      state_.command_byte = value;
      break;
    case kWriteOutputPort:
      return (value & kResetLine) == 0;
    case kWriteKeyboardOutput:
    case kWriteAuxiliaryOutput:
      // The byte is returned as if it came from the keyboard in both cases. An operating
      // system sees by this that there is no auxiliary port.
      reply(value);
      break;
    default:  // a byte for the keyboard, which does not exist
      break;
  }
  return false;
}

void I8042::reply(uint8_t value) {
  state_.output = value;
  state_.output_full = true;
}

}  // namespace wick::devices
