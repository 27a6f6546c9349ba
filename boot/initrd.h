// The initial RAM disk: one file, loaded as high as the kernel allows, so that
// it stays out of the kernel's way while that unpacks itself.
#pragma once

#include <cstdint>
#include <optional>

#include "base/guest_memory.h"
#include "base/result.h"
#include "boot/input_file.h"

namespace wick::boot {

// The highest page-aligned place for `size_bytes` that lies in RAM from 1 MiB
// on, ends at or below `end`, and keeps off `kernel`; nothing if there is none.
std::optional<GuestMemory::Range> place_initrd(const GuestMemory& memory, uint64_t size_bytes,
                                               uint64_t end, GuestMemory::Range kernel);

Result<void> load_initrd(const GuestMemory& memory, const InputFile& file,
                         GuestMemory::Range range);

}  // namespace wick::boot
