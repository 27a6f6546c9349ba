#include "devices/e1000/eeprom.h"

#include <numeric>

namespace wick::devices::e1000 {

namespace {

// Bits of EECD.
constexpr uint32_t kClock = 1 << 0;
constexpr uint32_t kSelect = 1 << 1;
constexpr uint32_t kDataIn = 1 << 2;
constexpr uint32_t kDataOut = 1 << 3;
constexpr uint32_t kFlashWrites = 3 << 4;
constexpr uint32_t kRequest = 1 << 6;
constexpr uint32_t kGrant = 1 << 7;
constexpr uint32_t kPresent = 1 << 8;
constexpr uint32_t kWritableBits = kClock | kSelect | kDataIn | kFlashWrites | kRequest;

// A command has a start bit, two bits of opcode and six bits of address.
constexpr uint8_t kCommandBits = 9;
constexpr uint16_t kReadOpcode = 2;
constexpr uint16_t kAddressBits = 6;

// Words that are not zero (table 5-2).
constexpr size_t kLeds = 0x04;
constexpr size_t kControl1 = 0x0a;
constexpr size_t kSubsystem = 0x0b;
constexpr size_t kSubsystemVendor = 0x0c;
constexpr size_t kDevice = 0x0d;
constexpr size_t kVendor = 0x0e;
constexpr size_t kControl2 = 0x0f;
constexpr size_t kChecksum = 0x3f;
constexpr uint16_t kSum = 0xbaba;  // the sum of all words

}  // namespace

Eeprom::Eeprom(const net::MacAddress& address) {
  for (size_t i = 0; i < 3; ++i)
    words_[i] = static_cast<uint16_t>(address[2 * i] | address[2 * i + 1] << 8);
  words_[kLeds] = 0xffff;      // the default configuration of the LEDs
  words_[kControl1] = 0x4403;  // valid; full duplex; load the PCI identifiers
  words_[kSubsystem] = kDesktopAdapter;
  words_[kSubsystemVendor] = kIntel;
  words_[kDevice] = k82540em;
  words_[kVendor] = kIntel;
  words_[kControl2] = 0x3040;  // pause frames in both directions
  words_[kChecksum] =
      static_cast<uint16_t>(kSum - std::accumulate(words_.begin(), words_.end() - 1, 0u));
}

// A request is granted at once, because nothing else accesses the EEPROM.
uint32_t Eeprom::control() const {
  return pins_ | kPresent | (output_ ? kDataOut : 0) | ((pins_ & kRequest) != 0 ? kGrant : 0);
}

void Eeprom::set_control(uint32_t value) {
  const uint32_t before = pins_;
  pins_ = value & kWritableBits;
  if ((pins_ & kSelect) == 0) {
    command_ = 0;
    command_bits_ = 0;
    output_bits_ = 0;
    output_ = true;
  } else if ((before & kSelect) != 0 && (~before & pins_ & kClock) != 0) {
    clock((pins_ & kDataIn) != 0);
  }
}

// Handles a rising edge of SK.
void Eeprom::clock(bool data) {
  if (command_bits_ < kCommandBits) {
    if (command_bits_ == 0 && !data) return;  // the start bit is a one
    command_ = static_cast<uint16_t>(command_ << 1 | (data ? 1 : 0));
    if (++command_bits_ < kCommandBits) return;
    if ((command_ >> kAddressBits & 3) != kReadOpcode) return;
    next_ = static_cast<uint8_t>(command_ & (kWords - 1));
    output_ = false;  // a zero announces the data
    word_ = words_[next_];
    output_bits_ = 16;
    next_ = static_cast<uint8_t>((next_ + 1) % kWords);
    return;
  }
  if (output_bits_ == 0) return;  // the last command was not READ
  output_ = (word_ >> --output_bits_ & 1) != 0;
  if (output_bits_ > 0) return;
  word_ = words_[next_];
  output_bits_ = 16;
  next_ = static_cast<uint8_t>((next_ + 1) % kWords);
}

}  // namespace wick::devices::e1000
