// The definition block of the DSDT: the devices of the machine in ACPI Machine Language.
//
// Thread rule: any thread; a pure function of its argument.
// Specification: ACPI 6.5, 5.2.11.1 (DSDT), 6 (device configuration).
#pragma once

#include "base/result.h"
#include "boot/acpi.h"
#include "boot/aml.h"

namespace wick::boot {

// Returns the terms that follow the table's header. Fails for a platform that the terms cannot
// describe.
Result<aml::Bytes> dsdt_terms(const AcpiPlatform& platform);

}  // namespace wick::boot
