#include "control/page_tables.h"

namespace wick::control {

namespace {

constexpr uint64_t kCr0Paging = 1ull << 31;
constexpr uint64_t kCr4Pse = 1 << 4, kCr4Pae = 1 << 5, kCr4La57 = 1 << 12;
constexpr uint64_t kEferLongActive = 1 << 10;

constexpr uint64_t kPresent = 1 << 0, kWritable = 1 << 1, kUser = 1 << 2, kLarge = 1 << 7;
constexpr uint64_t kNoExecute = 1ull << 63;
constexpr uint64_t kFrameMask = 0x000f'ffff'ffff'f000;

// The form of the tables: how many levels, and how many index bits each has.
struct Paging {
  int levels = 4;
  int index_bits = 9;
  int entry_bytes = 8;
  bool large_pages = true;  // at level 2
  bool pae_root = false;    // the root has four entries without rights
  bool long_mode = false;
};

class Walker {
 public:
  Walker(const Paging& paging, const GuestMemory& memory,
         const std::function<bool(const Mapping&)>& found)
      : paging_(paging), memory_(memory), found_(found) {}

  // `rights` are those of the levels above. Returns false to end the walk.
  bool table(int level, uint64_t address, uint64_t linear, uint64_t rights) {
    const int shift = 12 + paging_.index_bits * (level - 1);
    const bool root = paging_.pae_root && level == 3;
    const uint64_t entries = root ? 4 : 1ull << paging_.index_bits;
    for (uint64_t i = 0; i < entries; ++i) {
      if (++walked_ > kMaxWalkedEntries) {
        cut_ = true;
        return false;
      }
      const uint64_t entry = read(address + i * static_cast<uint64_t>(paging_.entry_bytes));
      if ((entry & kPresent) == 0) continue;
      const uint64_t here = linear | i << shift;
      const uint64_t allowed = root ? rights : combine(rights, entry);
      const bool large =
          level == 3 ? !root && paging_.long_mode : level == 2 && paging_.large_pages;
      const bool leaf = level == 1 || (large && (entry & kLarge) != 0);
      if (!(leaf ? page(shift, here, entry, allowed)
                 : table(level - 1, entry & kFrameMask, here, allowed)))
        return false;
    }
    return true;
  }
  bool cut() const { return cut_; }

 private:
  uint64_t read(uint64_t address) const {
    if (paging_.entry_bytes == 8) return memory_.read<uint64_t>({address}).value_or(0);
    return memory_.read<uint32_t>({address}).value_or(0);
  }

  // Writable and user only if all levels allow it; not executable if one forbids it.
  static uint64_t combine(uint64_t above, uint64_t entry) {
    return (above & entry & (kWritable | kUser)) | ((above | entry) & kNoExecute);
  }

  bool page(int shift, uint64_t linear, uint64_t entry, uint64_t rights) const {
    const uint64_t size = 1ull << shift;
    uint64_t physical = entry & kFrameMask & ~(size - 1);
    // PSE-36: bits 13 to 20 of a 4 MiB page's entry are bits 32 to 39 of its address.
    if (paging_.entry_bytes == 4 && size > 4096)
      physical = (entry & 0xffc0'0000) | (entry >> 13 & 0xff) << 32;
    // Linear addresses are canonical.
    const int top = paging_.levels * 9 + 12;
    if (paging_.long_mode && (linear >> (top - 1) & 1) != 0) linear |= ~0ull << top;
    return found_({.linear = linear,
                   .size_bytes = size,
                   .physical = physical,
                   .entry = entry,
                   .writable = (rights & kWritable) != 0,
                   .user = (rights & kUser) != 0,
                   .no_execute = (rights & kNoExecute) != 0});
  }

  const Paging paging_;
  const GuestMemory& memory_;
  const std::function<bool(const Mapping&)>& found_;
  uint64_t walked_ = 0;
  bool cut_ = false;
};

}  // namespace

Walk walk_page_tables(const vmm::CpuRegisters& registers, const GuestMemory& memory,
                      const std::function<bool(const Mapping&)>& found) {
  if ((registers.cr0 & kCr0Paging) == 0) return Walk::kPagingOff;
  Paging paging;
  uint64_t root = registers.cr3 & kFrameMask;
  if ((registers.cr4 & kCr4Pae) == 0) {
    paging = {.levels = 2,
              .index_bits = 10,
              .entry_bytes = 4,
              .large_pages = (registers.cr4 & kCr4Pse) != 0};
    root &= 0xffff'f000;
  } else if ((registers.efer & kEferLongActive) == 0) {
    paging = {.levels = 3, .pae_root = true};
    root = registers.cr3 & 0xffff'ffe0;
  } else {
    paging = {.levels = (registers.cr4 & kCr4La57) != 0 ? 5 : 4, .long_mode = true};
  }
  Walker walker(paging, memory, found);
  walker.table(paging.levels, root, 0, kWritable | kUser);
  return walker.cut() ? Walk::kCut : Walk::kComplete;
}

}  // namespace wick::control
