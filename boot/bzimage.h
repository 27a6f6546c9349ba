// Loads a Linux bzImage, to start at the boot protocol's 64-bit entry if there is one
// (XLF_KERNEL_64), else at its 32-bit entry. The compressed kernel is placed where it can
// unpack itself, and the setup header goes into the zero page. The real-mode code is not used.
//
// Protocol 2.06 or later is required. The fields of the header are untrusted: each is checked
// against the file and the guest's memory.
//
// Specification: Linux, Documentation/x86/boot.rst ("boot.rst" below).
#pragma once

#include "boot/boot.h"

namespace wick::boot {

Result<BootImage> load_bzimage(const GuestMemory& memory, const BootFiles& files);

}  // namespace wick::boot
