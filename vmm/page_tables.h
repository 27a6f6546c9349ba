// Walks the page tables of a vCPU: which linear addresses they map to which physical ones.
//
// Thread rule: any thread, while the guest does not run.
//
// The tables are in the guest's memory, which is hostile: a table may refer to itself, and then it
// maps 2^36 pages or more. The visitor must bound the walk.
// Specification: Intel SDM 3, 4.3 to 4.5 (32-bit, PAE, 4-level and 5-level paging).
#pragma once

#include <cstdint>
#include <optional>

#include "base/guest_memory.h"
#include "vmm/inspector.h"

namespace wick::vmm {

// The form of a vCPU's tables, and the first one. Two vCPUs for which it is equal have the same
// mappings.
struct Paging {
  // nullopt if paging is off.
  static std::optional<Paging> of(const CpuRegisters& registers);

  enum class Mode { k32Bit, kPae, kLong };
  Mode mode = Mode::kLong;
  unsigned levels = 4;
  bool large_pages = true;  // false: the PS bit of a directory's entries is ignored (k32Bit)
  uint64_t root = 0;        // the physical address of the first table
  auto operator<=>(const Paging&) const = default;
};

struct PageTable {
  uint64_t address = 0;  // physical
  unsigned level = 0;    // its entries' level: 1 maps pages of 4 KiB
  uint64_t linear = 0;   // the address that its first entry maps
  unsigned entries = 0;  // 512; 1024 if they have 32 bits; 4 in the first table of PAE
  auto operator<=>(const PageTable&) const = default;
};

struct Page {
  uint64_t linear = 0;
  uint64_t physical = 0;
  uint64_t size_bytes = 0;
  uint64_t entry = 0;     // of the last level
  bool writable = false;  // at all levels
  bool user = false;      // at all levels
};

class PageVisitor {
 public:
  enum class Next { kRead, kSkip, kEnd };

  virtual ~PageVisitor() = default;
  // Called before a table is read. kSkip leaves out its pages; kEnd ends the walk.
  virtual Next on_table(const PageTable& table) = 0;
  // Returns false to end the walk.
  virtual bool on_page(const Page& page) = 0;
};

struct LinearRange {
  uint64_t first = 0;
  uint64_t last = UINT64_MAX;
};

// Visits the tables and pages that map an address of `range`, in the order of linear addresses. A
// table that is not in RAM has no pages. Returns false if the visitor has ended the walk.
bool walk_page_tables(const Paging& paging, const GuestMemory& memory, PageVisitor& visitor,
                      LinearRange range = {});

}  // namespace wick::vmm
