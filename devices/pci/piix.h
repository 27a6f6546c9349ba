// The two functions of an Intel PIIX4 that OVMF asks for on a machine with an i440FX: the bridge to
// ISA, behind which OVMF looks for serial ports and a PS/2 keyboard, and the power management
// function, which says where the ACPI timer is. Neither function does anything; ACPI describes the
// devices to operating systems.
//
// Thread rule: as PciHost's.
// Specification: Intel 82371AB (PIIX4), 4.1 and 7.1; edk2, OvmfPkg/SioBusDxe/SioBusDxe.c and
// OvmfPkg/Library/AcpiTimerLib.
#pragma once

#include "devices/pci/function.h"
#include "devices/pci/host.h"

namespace wick::devices {

class Piix {
 public:
  // OVMF expects the power management function at this address, even if function 0 of the slot does
  // not announce it.
  static constexpr uint8_t kPowerManagementSlot = 1;
  static constexpr uint8_t kPowerManagementFunction = 3;

  // The ACPI timer is at `pm_port` + 8. `pm_port` is a multiple of 64.
  explicit Piix(uint16_t pm_port);

  // Adds the ISA bridge to the host bridge's slot, and the power management function where OVMF
  // asks for it. Other software does not find the power management function, because function 0 of
  // its slot does not announce it.
  Result<void> attach_to(PciHost& host);

 private:
  PciFunction isa_bridge_;
  PciFunction power_management_;
};

}  // namespace wick::devices
