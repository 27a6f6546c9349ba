// The initial RAM disk. It is loaded at the highest address that the kernel allows, so that the
// kernel does not overwrite it while unpacking itself.
#pragma once

#include <cstdint>
#include <optional>

#include "base/guest_memory.h"
#include "base/result.h"
#include "boot/input_file.h"

namespace wick::boot {

// Returns the highest page-aligned range of `size_bytes` that lies in RAM from 1 MiB on, ends at or
// below `end`, and does not overlap `kernel`; nullopt if there is no such range.
std::optional<GuestMemory::Range> place_initrd(const GuestMemory& memory, uint64_t size_bytes,
                                               uint64_t end, GuestMemory::Range kernel);

Result<void> load_initrd(const GuestMemory& memory, const InputFile& file,
                         GuestMemory::Range range);

}  // namespace wick::boot
