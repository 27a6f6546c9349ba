#include "vmm/page_tables.h"

#include <array>

#include "base/processor_flags.h"

namespace wick::vmm {

namespace {

// Bits of a page table entry (Intel SDM 3, tables 4-4 to 4-20).
constexpr uint64_t kPresent = 1 << 0;
constexpr uint64_t kWritable = 1 << 1;
constexpr uint64_t kUser = 1 << 2;
constexpr uint64_t kPageSize = 1 << 7;
constexpr uint64_t kAddressBits = 0x000f'ffff'ffff'f000;  // bits 51 to 12
constexpr uint64_t k32BitAddressBits = 0xffff'f000;
// Bits of CR3 with PAE paging: the address of the root table (table 4-7).
constexpr uint64_t kPaeRootBits = 0xffff'ffe0;
constexpr unsigned kPageShift = 12;

class Walker {
 public:
  Walker(const Paging& paging, const GuestMemory& memory, PageVisitor& visitor, LinearRange range)
      : paging_(paging), memory_(memory), visitor_(visitor), range_(range) {}

  bool walk() {
    switch (paging_.mode) {
      case Paging::Mode::k32Bit:
        return table<uint32_t, 1024>(paging_.root, 2, 0, kWritable | kUser);
      case Paging::Mode::kPae:
        return table<uint64_t, 4>(paging_.root, 3, 0, kWritable | kUser);
      case Paging::Mode::kLong:
        return table<uint64_t, 512>(paging_.root, paging_.levels, 0, kWritable | kUser);
    }
    return true;
  }

 private:
  // Visits one table and all tables and pages below it. `rights` are the rights (kWritable, kUser)
  // that the entries of all higher levels grant.
  template <typename Entry, unsigned kEntries>
  bool table(uint64_t address, unsigned level, uint64_t linear, uint64_t rights) {
    constexpr bool k32Bit = sizeof(Entry) == 4;
    constexpr bool kPaeRoot = kEntries == 4;
    switch (visitor_.on_table(
        {.address = address, .level = level, .linear = linear, .entries = kEntries})) {
      case PageVisitor::Next::kEnd:
        return false;
      case PageVisitor::Next::kSkip:
        return true;
      case PageVisitor::Next::kRead:
        break;
    }
    const auto entries = memory_.read<std::array<Entry, kEntries>>({address});
    if (!entries) return true;
    const unsigned shift = kPageShift + (k32Bit ? 10 : 9) * (level - 1);
    for (uint64_t i = 0; i < kEntries; ++i) {
      const uint64_t entry = (*entries)[i];
      if ((entry & kPresent) == 0) continue;
      const uint64_t here = first_address(linear, i, level, shift);
      const uint64_t last = here + ((uint64_t{1} << shift) - 1);
      if (here > range_.last || last < range_.first) continue;
      // The entries of the PAE root table have no bits for rights.
      const uint64_t allowed = kPaeRoot ? rights : rights & entry;
      const bool go_on = !kPaeRoot && is_page(entry, level)
                             ? visitor_.on_page(
                                   {.linear = here,
                                    .physical = physical_address<k32Bit>(entry, level, shift),
                                    .size_bytes = uint64_t{1} << shift,
                                    .entry = entry,
                                    .writable = (allowed & kWritable) != 0,
                                    .user = (allowed & kUser) != 0})
                             : table < Entry,
                 k32Bit ? 1024
                        : 512 > (entry & (k32Bit ? k32BitAddressBits : kAddressBits), level - 1,
                                 here, allowed);
      if (!go_on) return false;
    }
    return true;
  }

  uint64_t first_address(uint64_t linear, uint64_t index, unsigned level, unsigned shift) const {
    const uint64_t address = linear + (index << shift);
    // Linear addresses are canonical: the bits above the translated ones equal the highest
    // translated bit (Intel SDM 1, 3.3.7.1).
    const bool upper_half =
        paging_.mode == Paging::Mode::kLong && level == paging_.levels && index >= 256;
    return upper_half ? address | ~uint64_t{0} << (shift + 9) : address;
  }

  bool is_page(uint64_t entry, unsigned level) const {
    if (level == 1) return true;
    const bool can_be = level == 2 ? paging_.large_pages : level == 3;
    return can_be && (entry & kPageSize) != 0;
  }

  template <bool k32Bit>
  static uint64_t physical_address(uint64_t entry, unsigned level, unsigned shift) {
    // Bits 20 to 13 of a 4 MiB page's entry are bits 39 to 32 of its address (table 4-4).
    if (k32Bit && level == 2) return (entry & 0xffc0'0000) | (entry >> 13 & 0xff) << 32;
    return entry & (k32Bit ? k32BitAddressBits : kAddressBits) & (~uint64_t{0} << shift);
  }

  const Paging paging_;
  const GuestMemory& memory_;
  PageVisitor& visitor_;
  const LinearRange range_;
};

}  // namespace

std::optional<Paging> Paging::of(const CpuRegisters& registers) {
  if ((registers.cr0 & X86_CR0_PG) == 0) return std::nullopt;
  if ((registers.efer & EFER_LMA) != 0)
    return Paging{.mode = Mode::kLong,
                  .levels = (registers.cr4 & X86_CR4_LA57) != 0 ? 5u : 4u,
                  .root = registers.cr3 & kAddressBits};
  if ((registers.cr4 & X86_CR4_PAE) != 0)
    return Paging{.mode = Mode::kPae, .levels = 3, .root = registers.cr3 & kPaeRootBits};
  return Paging{.mode = Mode::k32Bit,
                .levels = 2,
                .large_pages = (registers.cr4 & X86_CR4_PSE) != 0,
                .root = registers.cr3 & k32BitAddressBits};
}

bool walk_page_tables(const Paging& paging, const GuestMemory& memory, PageVisitor& visitor,
                      LinearRange range) {
  return Walker(paging, memory, visitor, range).walk();
}

}  // namespace wick::vmm
