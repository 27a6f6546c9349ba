#include "devices/e1000/phy.h"

namespace wick::devices::e1000 {

namespace {

enum Index : size_t {
  kControl = 0,
  kStatus = 1,
  kPartnerAbility = 5,
  kExpansion = 6,
  k1000Status = 10,
  kSpecificStatus = 17,
};

// Bits of register 0 (802.3, 22.2.4.1).
constexpr uint16_t kReset = 1 << 15;
constexpr uint16_t kNegotiate = 1 << 12;
constexpr uint16_t kPowerDown = 1 << 11;
constexpr uint16_t kRestart = 1 << 9;

// Bits that are set while the link is up.
constexpr uint16_t kStatusUp = 1 << 5 | 1 << 2;  // negotiation complete, link up
constexpr uint16_t kPartner = 0x41e1;            // acknowledge; 10 and 100 Mb/s, no pause
constexpr uint16_t kPartnerNegotiates = 1 << 0;
constexpr uint16_t k1000Up = 0x3c00;      // both receivers are OK; the partner can do 1000BASE-T
constexpr uint16_t kSpecificUp = 0xac00;  // 1000 Mb/s, full duplex, resolved, link up

struct Register {
  uint16_t reset = 0;
  uint16_t writable = 0;
};

constexpr std::array<Register, Phy::kRegisters> kTable = {{
    {0x1140, 0x7dc0},                    // control: negotiation, full duplex, 1000 Mb/s
    {0x7949, 0},                         // status: 10 and 100 Mb/s; extended status
    {0x0141, 0},                         // PHY identifier, upper half
    {0x0c20, 0},      {0x0de1, 0xffff},  // lower half; advertised abilities
    {0, 0},                              // link partner ability
    {0x0004, 0},                         // expansion: next pages
    {0x2001, 0xffff},                    // next page
    {0, 0},           {0x0300, 0xff00},  // 1000BASE-T: we advertise both duplexes
    {0, 0},                              // 1000BASE-T status
    {0, 0},           {0, 0},           {0, 0},
    {0, 0},           {0x3000, 0},       // 1000BASE-T in both duplexes
    {0x0060, 0xffff},                    // specific control: crossover is automatic
    {0, 0},                              // specific status
    {0, 0xffff},                         // interrupt enable
    {0, 0},           {0x0d60, 0xffff},  // interrupt status; extended specific control
    {0, 0},                              // receive errors
    {0, 0},           {0, 0},           {0x4100, 0xffff},  // LED control
    {0, 0xffff},      {0, 0xffff},      {0, 0},
    {0, 0},           {0, 0xffff},  // page selection
    {0, 0xffff},      {0, 0},
}};

}  // namespace

void Phy::reset() {
  for (size_t i = 0; i < kRegisters; ++i) registers_[i] = kTable[i].reset;
}

bool Phy::link_up(bool cable) const { return cable && (registers_[kControl] & kPowerDown) == 0; }

uint16_t Phy::read(size_t index, bool cable) const {
  if (index >= kRegisters) return 0;
  const auto with = [&](uint16_t more) {
    return static_cast<uint16_t>(registers_[index] | (link_up(cable) ? more : 0));
  };
  switch (index) {
    case kStatus:
      return with(kStatusUp);
    case kPartnerAbility:
      return with(kPartner);
    case kExpansion:
      return with(kPartnerNegotiates);
    case k1000Status:
      return with(k1000Up);
    case kSpecificStatus:
      return with(kSpecificUp);
    default:
      return registers_[index];
  }
}

bool Phy::write(size_t index, uint16_t value) {
  if (index >= kRegisters) return false;
  const uint16_t writable = kTable[index].writable;
  registers_[index] = static_cast<uint16_t>((registers_[index] & ~writable) | (value & writable));
  // A software reset makes written values take effect, but does not change them. The reset bit
  // clears itself.
  if (index != kControl) return false;
  return (value & kReset) != 0 || (value & (kNegotiate | kRestart)) == (kNegotiate | kRestart);
}

}  // namespace wick::devices::e1000
