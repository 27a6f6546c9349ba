// Tables whose address is not known yet: bytes, and the fields that depend on the address. wick
// links them itself for a kernel that it starts directly. Firmware links them by a script of
// commands (QEMU's "linker/loader"), which it reads through fw_cfg.
//
// Thread rule: any thread; values and pure functions.
// Specification: QEMU, hw/acpi/bios-linker-loader.c. SeaBIOS executes the script in
// src/fw/romfile_loader.c, edk2 in OvmfPkg/AcpiPlatformDxe/QemuFwCfgAcpi.c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/guest_memory.h"

namespace wick::boot {

struct TableBlob {
  // A field of 4 or 8 bytes, at `offset` in this blob. It holds an offset in the blob of the
  // tables; linking adds the address of that blob.
  struct Pointer {
    uint32_t offset = 0;
    uint8_t size_bytes = 0;
  };
  // A byte at `offset`, inside the range, that makes the sum of the range 0. The byte is 0 until it
  // is computed.
  struct Checksum {
    uint32_t offset = 0;
    uint32_t start = 0;
    uint32_t size_bytes = 0;
  };

  std::vector<std::byte> bytes = {};
  std::vector<Pointer> pointers = {};
  std::vector<Checksum> checksums = {};  // computed in this order, after all pointers
};

// Returns the byte that must be added so that the sum of all bytes is 0.
std::byte checksum(std::span<const std::byte> bytes);

// Completes `blob`: adds `tables`, the address of the blob of the tables, to its pointers, and
// computes its checksums. `tables` must be below 4 GiB.
void link(TableBlob& blob, GuestAddress tables);

// The files in which firmware finds ACPI tables.
constexpr std::string_view kAcpiTablesFile = "etc/acpi/tables";
constexpr std::string_view kAcpiRsdpFile = "etc/acpi/rsdp";
constexpr std::string_view kTableLoaderFile = "etc/table-loader";

// Returns the script with which firmware allocates memory for kAcpiTablesFile (aligned to 64 bytes,
// as the FACS must be) and for kAcpiRsdpFile (where an operating system looks for the RSDP), and
// links both.
std::vector<std::byte> make_loader_script(const TableBlob& tables, const TableBlob& rsdp);

}  // namespace wick::boot
