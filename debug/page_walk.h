// Which linear addresses the page tables of all vCPUs map to which physical ones, as ranges. The
// walk of one vCPU's tables is vmm/page_tables.h.
//
// Thread rule: any thread, while the guest does not run. Reads the guest's memory, which is
// hostile: the tables may refer to themselves, and then map all addresses to everywhere. The
// number of tables read and of ranges found is bounded.
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
  uint64_t tables = 1 << 18;    // for all vCPUs
  uint64_t mappings = 1 << 20;  // after ranges that touch were joined
  // Only linear addresses from `first` to `last` are looked for. What is found may reach beyond
  // them, to the end of a page.
  uint64_t first = 0;
  uint64_t last = UINT64_MAX;
};

// The mappings of all vCPUs that have paging on, sorted by linear address. Two that touch in both
// addresses are one, and none is there twice; but two vCPUs may map one linear address to two
// physical ones. A mapping need not be RAM. Fails beyond a limit, and with ECANCELED after a
// request to stop.
Result<std::vector<Mapping>> walk_page_tables(const GuestMemory& memory,
                                              std::span<const vmm::CpuRegisters> cpus,
                                              const WalkLimits& limits = {},
                                              std::stop_token stop = {});

}  // namespace wick::debug
