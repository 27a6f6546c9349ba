// A walk over all of a guest's page tables: 32-bit, PAE, 4 and 5 levels (Intel SDM 3, 4.3 to
// 4.5). The tables are the guest's: a table may refer to itself, so the walk is bounded.
#pragma once

#include <cstdint>
#include <functional>

#include "base/guest_memory.h"
#include "vmm/inspector.h"

namespace wick::control {

struct Mapping {
  uint64_t linear = 0;
  uint64_t size_bytes = 0;
  uint64_t physical = 0;
  uint64_t entry = 0;                                       // the last entry's attributes
  bool writable = false, user = false, no_execute = false;  // at all levels
};

enum class Walk { kComplete, kPagingOff, kCut };

// The entries that are looked at, at most; about those of 8 GiB in pages of 4 KiB.
constexpr uint64_t kMaxWalkedEntries = 1 << 22;

// Calls `found` for each mapped page in the order of linear addresses, until it returns false.
Walk walk_page_tables(const vmm::CpuRegisters& registers, const GuestMemory& memory,
                      const std::function<bool(const Mapping&)>& found);

}  // namespace wick::control
