// The EEPROM of the 82540EM: 64 words with the card's identity, and the four-wire
// Microwire bus by which a driver can read them.
//
// The EEPROM is read-only, because the host assigns the card's MAC address.
//
// Thread rule: called with the card's mutex held.
//
// Specification: Intel 8254x Software Developer's Manual (317453), 5.6 (contents)
// and 13.4.3 (EECD); the Microwire protocol is that of a 93C46.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "net/mac_address.h"

namespace wick::devices::e1000 {

// The identifiers in the EEPROM and in the PCI configuration space: a PRO/1000 MT
// Desktop Adapter.
constexpr uint16_t kIntel = 0x8086;
constexpr uint16_t k82540em = 0x100e;
constexpr uint16_t kDesktopAdapter = 0x001e;

class Eeprom {
 public:
  static constexpr size_t kWords = 64;

  explicit Eeprom(const net::MacAddress& address);

  uint16_t word(size_t index) const { return index < kWords ? words_[index] : uint16_t{0xffff}; }

  // The register EECD.
  uint32_t control() const;
  void set_control(uint32_t value);

  bool operator==(const Eeprom&) const = default;

 private:
  void clock(bool data);

  std::array<uint16_t, kWords> words_{};
  uint32_t pins_ = 0;     // the bits of EECD that the driver has set
  uint16_t command_ = 0;  // the bits received so far of start bit, opcode and address
  uint8_t command_bits_ = 0;
  uint8_t output_bits_ = 0;  // the bits of word_ that are still to be sent
  uint16_t word_ = 0;
  uint8_t next_ = 0;    // the address of the word after word_
  bool output_ = true;  // DO; high while the EEPROM does not drive it
};

}  // namespace wick::devices::e1000
