// Lists which linear addresses the page tables of all vCPUs map to which physical addresses, as
// ranges. vmm/page_tables.h walks the tables of one vCPU.
//
// Thread rule: any thread, while the guest does not run.
//
// The guest may be hostile: tables that refer to themselves map a huge number of pages. So the
// number of tables read and the number of ranges found are bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"
#include "vmm/inspector.h"

namespace wick::debug {

struct Mapping {
  uint64_t linear = 0;
  uint64_t physical = 0;
  uint64_t size_bytes = 0;
  bool operator==(const Mapping&) const = default;
};

struct WalkLimits {
  uint64_t tables = 1 << 18;    // tables read, for all vCPUs together
  uint64_t mappings = 1 << 20;  // mappings found, after adjacent ones were joined
  // Only pages that map an address from `first` to `last` are visited. A large page may reach
  // beyond this range.
  uint64_t first = 0;
  uint64_t last = UINT64_MAX;
};

// Returns the mappings of all vCPUs that have paging on, sorted by linear address and without
// duplicates. Mappings that adjoin in both linear and physical addresses are joined. A linear
// address may occur twice if two vCPUs map it to different physical addresses. A mapping need not
// lead to RAM. Fails if a limit is exceeded, and with ECANCELED after a request to stop.
Result<std::vector<Mapping>> walk_page_tables(const GuestMemory& memory,
                                              std::span<const vmm::CpuRegisters> cpus,
                                              const WalkLimits& limits = {},
                                              std::stop_token stop = {});

}  // namespace wick::debug
