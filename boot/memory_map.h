// The layout of the guest's first megabyte, and the memory map for the kernel. All kernel
// formats use both.
//
// Specification: ACPI 6.5, 15 "System Address Map Interfaces" (E820).
#pragma once

#include <cstdint>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::boot {

// Data for the kernel in conventional memory. The kernel copies this data before it uses the
// memory for anything else. Page 0 stays empty, so that address 0 can mean "none".
constexpr GuestAddress kBootInfo{0x1000};  // the zero page, or hvm_start_info and its lists
constexpr GuestAddress kGdt{0x2000};
constexpr GuestAddress kPageTables{0x3000};  // six pages of page tables
constexpr GuestAddress kBootStackEnd{
    0xa000};  // one page, for kernels that use the stack before they set rsp
constexpr GuestAddress kFifthLevel{0xa000};  // a page table, for 5-level paging
constexpr GuestAddress kCommandLine{0x10000};
constexpr uint64_t kCommandLineBytes = 0x10000;  // including the NUL

// From kConventionalEnd to 1 MiB a PC has BIOS data. The ACPI and SMBIOS tables are in the last 128
// KiB, where an operating system looks for them (ACPI 6.5, 5.2.5.1; SMBIOS 2.8, 5.2.1).
constexpr uint64_t kConventionalEnd = 0x9fc00;
constexpr GuestAddress kAcpiTables{0xe0000};
constexpr uint64_t kAcpiTablesBytes = 0x10000;
constexpr GuestAddress kSmbiosTables{0xf0000};

// Kernels and initrds are loaded at or above this address.
constexpr uint64_t kHighMemory = 0x10'0000;
constexpr uint64_t kAddressableEnd = 1ULL << 32;

// RAM below 4 GiB ends at or below this address; further RAM begins at 4 GiB.
constexpr uint64_t kLowRamEnd = 0xc000'0000;

struct MemoryMapEntry {
  // Values of the address range types (ACPI 6.5, table 15.1).
  enum class Type : uint32_t { kUsable = 1, kReserved = 2 };
  uint64_t start = 0;
  uint64_t size_bytes = 0;
  Type type = Type::kUsable;
};

std::vector<MemoryMapEntry> memory_map(const GuestMemory& memory);

// Fails unless RAM begins at 0 and is larger than 1 MiB, the minimum for this layout.
Result<void> check_low_memory(const GuestMemory& memory);

// Converts bytes to MiB, rounded up, for messages.
constexpr uint64_t mebibytes(uint64_t size_bytes) {
  return size_bytes / (1 << 20) + (size_bytes % (1 << 20) != 0);
}

}  // namespace wick::boot
