// Walks the page tables of a vCPU and reports which linear addresses they map to which physical
// addresses.
//
// Thread rule: any thread, while the guest does not run.
//
// The guest may be hostile: a page table that refers to itself maps 2^36 pages or more. So the
// visitor must bound the walk.
// Specification: Intel SDM 3, 4.3 to 4.5 (32-bit, PAE, 4-level and 5-level paging).
#pragma once

#include <cstdint>
#include <optional>

#include "base/guest_memory.h"
#include "vmm/inspector.h"

namespace wick::vmm {

// The format of a vCPU's page tables and the address of the root table. Two vCPUs with equal values
// have the same mappings.
struct Paging {
  // nullopt if paging is off.
  static std::optional<Paging> of(const CpuRegisters& registers);

  enum class Mode { k32Bit, kPae, kLong };
  Mode mode = Mode::kLong;
  unsigned levels = 4;
  bool large_pages = true;  // false: the PS bit in a page directory is ignored (k32Bit, CR4.PSE)
  uint64_t root = 0;        // the physical address of the first table
  auto operator<=>(const Paging&) const = default;
};

struct PageTable {
  uint64_t address = 0;  // the physical address of the table
  unsigned level = 0;    // 1: the entries map pages of 4 KiB
  uint64_t linear = 0;   // the address that the first entry maps
  unsigned entries = 0;  // 512; 1024 in mode k32Bit; 4 in the root table of kPae
  auto operator<=>(const PageTable&) const = default;
};

struct Page {
  uint64_t linear = 0;
  uint64_t physical = 0;
  uint64_t size_bytes = 0;
  uint64_t entry = 0;     // the entry that maps the page
  bool writable = false;  // the entries of all levels allow writes
  bool user = false;      // the entries of all levels allow user-mode access
};

class PageVisitor {
 public:
  enum class Next { kRead, kSkip, kEnd };

  virtual ~PageVisitor() = default;
  // Called before a table is read. kSkip skips the table's pages; kEnd ends the walk.
  virtual Next on_table(const PageTable& table) = 0;
  // Returns false to end the walk.
  virtual bool on_page(const Page& page) = 0;
};

struct LinearRange {
  uint64_t first = 0;
  uint64_t last = UINT64_MAX;
};

// Visits the tables and pages that map an address of `range`, in the order of linear addresses. A
// table outside RAM counts as empty. Returns false if the visitor has ended the walk.
bool walk_page_tables(const Paging& paging, const GuestMemory& memory, PageVisitor& visitor,
                      LinearRange range = {});

}  // namespace wick::vmm
