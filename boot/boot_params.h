// The zero page, in which a boot loader passes parameters to Linux.
//
// Specification: Linux, Documentation/x86/zero-page.rst and boot.rst.
#pragma once

#include <asm/bootparam.h>

#include <cstddef>
#include <span>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::boot {

static_assert(sizeof(::boot_params) == 4096);
static_assert(offsetof(::boot_params, acpi_rsdp_addr) == 0x070);
static_assert(offsetof(::boot_params, ext_ramdisk_image) == 0x0c0);
static_assert(offsetof(::boot_params, e820_entries) == 0x1e8);
static_assert(offsetof(::boot_params, hdr) == 0x1f1);
static_assert(offsetof(::boot_params, e820_table) == 0x2d0);
static_assert(sizeof(::boot_e820_entry) == 20);
static_assert(sizeof(::setup_header) == 0x26c - 0x1f1);

// The setup header has this offset in the kernel file and in the zero page, and may grow up to
// the next field of the zero page.
constexpr size_t kSetupHeader = offsetof(::boot_params, hdr);
constexpr size_t kSetupHeaderLimit = offsetof(::boot_params, edd_mbr_sig_buffer);

// Writes a zero page at kBootInfo. It consists of `header` as the loader filled it in, the upper
// halves of the initrd's address and size, the memory map, and the address of the RSDP (0: there is
// none). The header of a new kernel may be longer than ::setup_header.
Result<void> write_boot_params(const GuestMemory& memory, std::span<const std::byte> header,
                               GuestMemory::Range initrd, GuestAddress rsdp);

}  // namespace wick::boot
