// The PHY in the 82540EM, a Marvell 88E1011, at the end of a cable to a switch that
// does 1000BASE-T: negotiation is over as soon as it begins.
//
// Plain values, no thread rule: it is called with the card's mutex held.
//
// Specification: IEEE 802.3, 22.2.4 (registers 0 to 15); Intel 8254x Software
// Developer's Manual (317453), chapter 11 (16 and up).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace wick::devices::e1000 {

class Phy {
 public:
  static constexpr size_t kRegisters = 32;
  static constexpr uint8_t kAddress = 1;  // on the MDI bus

  Phy() { reset(); }

  void reset();
  // `cable`: whether there is a link partner.
  bool link_up(bool cable) const;
  uint16_t read(size_t index, bool cable) const;
  // True if the link is negotiated anew by it.
  bool write(size_t index, uint16_t value);

  bool operator==(const Phy&) const = default;

 private:
  std::array<uint16_t, kRegisters> registers_{};
};

}  // namespace wick::devices::e1000
