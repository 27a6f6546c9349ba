// A Linux bzImage, by the boot protocol's 64-bit entry where it has one
// (XLF_KERNEL_64), otherwise by its 32-bit entry: the compressed kernel goes to
// where it will unpack itself, the setup header into the zero page, and the
// real-mode code nowhere.
//
// Wants protocol 2.06 or later. Every field of the header is the file's claim,
// and checked against the file and the guest's memory.
//
// Specification: Linux, Documentation/x86/boot.rst ("boot.rst" below).
#pragma once

#include "boot/boot.h"

namespace wick::boot {

Result<BootImage> load_bzimage(const GuestMemory& memory, const BootFiles& files);

}  // namespace wick::boot
