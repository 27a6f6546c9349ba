// The SMBIOS tables: the machine's name and UUID, for users and for programs that depend on
// them (dmidecode, /sys/class/dmi, cloud-init), and the layout of its memory.
//
// Thread rule: write_smbios_tables() before the first vCPU runs; make_smbios_files() on any thread.
// Specification: SMBIOS 2.8 (DSP0134), 5.2.1 (entry point), 7 (structures).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::boot {

struct SmbiosPlatform {
  std::string name = {};  // the machine's name, which becomes its serial number; empty: none
  std::array<uint8_t, 16> uuid = {};  // in network byte order (RFC 9562); all 0: none
  uint32_t cpus = 1;                  // cores of the only socket
};

// Writes the entry point and the tables at kSmbiosTables, which the memory map reserves and
// operating systems scan.
Result<void> write_smbios_tables(const GuestMemory& memory, const SmbiosPlatform& platform);

// The same structures as files for firmware, which copies them to a place of its choice, writes the
// address into the entry point, and completes the checksums (SeaBIOS, src/fw/biostables.c; edk2,
// OvmfPkg/SmbiosPlatformDxe). Structure 0 is missing, because firmware adds its own, in which it
// describes itself. Only the layout of `memory` is used, not its content.
struct SmbiosFiles {
  std::vector<std::byte> anchor = {};  // the entry point, for tables at address 0
  std::vector<std::byte> tables = {};
};

constexpr std::string_view kSmbiosAnchorFile = "etc/smbios/smbios-anchor";
constexpr std::string_view kSmbiosTablesFile = "etc/smbios/smbios-tables";

SmbiosFiles make_smbios_files(const GuestMemory& memory, const SmbiosPlatform& platform);

}  // namespace wick::boot
