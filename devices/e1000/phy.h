// The PHY of the 82540EM, a Marvell 88E1011, connected to a 1000BASE-T switch.
// Auto-negotiation completes at once.
//
// Thread rule: called with the card's mutex held.
//
// Specification: IEEE 802.3, 22.2.4 (registers 0 to 15); Intel 8254x Software
// Developer's Manual (317453), chapter 11 (registers 16 and up).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace wick::devices::e1000 {

class Phy {
 public:
  static constexpr size_t kRegisters = 32;
  static constexpr uint8_t kAddress = 1;  // the PHY's address on the MDI bus

  Phy() { reset(); }

  void reset();
  // Returns true if the link is up. `cable` is true if there is a link partner.
  bool link_up(bool cable) const;
  uint16_t read(size_t index, bool cable) const;
  // Returns true if the write restarts auto-negotiation.
  bool write(size_t index, uint16_t value);

  bool operator==(const Phy&) const = default;

 private:
  std::array<uint16_t, kRegisters> registers_{};
};

}  // namespace wick::devices::e1000
