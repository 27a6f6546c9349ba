#include "devices/pci/piix.h"

namespace wick::devices {

namespace {

constexpr uint16_t kIntel = 0x8086;
constexpr uint8_t kIsaBridgeFunction = 1;  // the function's number in slot 0

// Registers of the power management function.
constexpr uint8_t kPmBase = 0x40;
constexpr uint32_t kPmBaseIsPorts = 1 << 0;
constexpr uint8_t kPmMisc = 0x80;
constexpr uint32_t kPmDecoded = 1 << 0;  // PMIOSE: the ports are decoded

}  // namespace

// PMBA is fixed, and its ports are decoded from the start, so OVMF does not move them.
Piix::Piix(uint16_t pm_port)
    : isa_bridge_({.vendor = kIntel, .device = 0x7000, .class_code = 0x060100}, nullptr),
      power_management_({.vendor = kIntel, .device = 0x7113, .class_code = 0x068000}, nullptr) {
  power_management_.add_register(kPmBase, pm_port | kPmBaseIsPorts, 0);
  power_management_.add_register(kPmMisc, kPmDecoded, 0);
}

Result<void> Piix::attach_to(PciHost& host) {
  host.bridge().set_multifunction();
  TRY(host.attach_further(0, kIsaBridgeFunction, isa_bridge_));
  return host.attach_further(kPowerManagementSlot, kPowerManagementFunction, power_management_);
}

}  // namespace wick::devices
