// Guest memory for a test.
#pragma once

#include <cstdint>
#include <vector>

#include "base/guest_memory.h"

namespace wick::fakes {

inline GuestMemory memory_of(const std::vector<GuestMemory::Range>& ranges) {
  return GuestMemory::create(ranges).value();
}

// RAM from address 0 on.
inline GuestMemory memory_of(uint64_t size_bytes) { return memory_of({{{0}, size_bytes}}); }

}  // namespace wick::fakes
