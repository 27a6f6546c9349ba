// Loads a Linux bzImage. If wick has unpacked its kernel, the kernel starts directly, at random
// addresses, as if the bzImage's own code had unpacked it. Otherwise the compressed kernel is
// placed where it can unpack itself. It then starts at the boot protocol's 64-bit entry if it has
// that entry (XLF_KERNEL_64), else at its 32-bit entry. The setup header goes into the zero page.
// The real-mode code is not used.
//
// Protocol 2.06 or later is required. The fields of the header are untrusted: each is checked
// against the file and the guest's memory.
//
// Specification: Linux, Documentation/x86/boot.rst ("boot.rst" below).
#pragma once

#include "boot/boot.h"

namespace wick::boot {

// Checks the header, and unpacks the kernel or takes it from the cache. Returns nullopt if the
// kernel must unpack itself: it has no 64-bit entry, it is not compressed as Linux's build does it,
// or its own code would be as quick.
Result<std::optional<UnpackedKernel>> unpack_bzimage(const InputFile& file,
                                                     const KernelCache& cache);

Result<BootImage> load_bzimage(const GuestMemory& memory, const BootFiles& files);

}  // namespace wick::boot
