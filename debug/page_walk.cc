#include "debug/page_walk.h"

#include <algorithm>
#include <array>
#include <set>
#include <tuple>
#include <utility>

namespace wick::debug {

namespace {

constexpr uint64_t kCr0Paging = 1u << 31;
constexpr uint64_t kCr4PageSizeExtensions = 1 << 4;
constexpr uint64_t kCr4PhysicalAddressExtension = 1 << 5;
constexpr uint64_t kCr4FiveLevels = 1 << 12;
constexpr uint64_t kEferLongModeActive = 1 << 10;

constexpr uint64_t kPresent = 1;
constexpr uint64_t kLarge = 1 << 7;                       // PS
constexpr uint64_t kAddressBits = 0x000f'ffff'ffff'f000;  // 51 to 12
constexpr uint64_t kPaeRootBits = 0xffff'ffe0;            // of CR3
constexpr unsigned kPageShift = 12;

constexpr unsigned level_shift(unsigned level) { return kPageShift + 9 * (level - 1); }

// The tables that a vCPU uses; those of two vCPUs are often the same.
struct Root {
  enum class Kind { k32Bit, kPae, kLong };
  Kind kind = Kind::kLong;
  unsigned levels = 4;
  bool large_pages = true;  // of 4 MiB, for k32Bit
  uint64_t table = 0;
  auto operator<=>(const Root&) const = default;
};

Root root_of(const vmm::CpuRegisters& cpu) {
  if ((cpu.efer & kEferLongModeActive) != 0)
    return {.kind = Root::Kind::kLong,
            .levels = (cpu.cr4 & kCr4FiveLevels) != 0 ? 5u : 4u,
            .table = cpu.cr3 & kAddressBits};
  if ((cpu.cr4 & kCr4PhysicalAddressExtension) != 0)
    return {.kind = Root::Kind::kPae, .levels = 3, .table = cpu.cr3 & kPaeRootBits};
  return {.kind = Root::Kind::k32Bit,
          .levels = 2,
          .large_pages = (cpu.cr4 & kCr4PageSizeExtensions) != 0,
          .table = cpu.cr3 & 0xffff'f000};
}

class Walk {
 public:
  Walk(const GuestMemory& memory, const WalkLimits& limits, std::stop_token stop)
      : memory_(memory), limits_(limits), stop_(std::move(stop)) {}

  Result<void> add(const Root& root) {
    switch (root.kind) {
      case Root::Kind::k32Bit:
        return add_32_bit(root);
      case Root::Kind::kPae:
        return add_pae(root);
      case Root::Kind::kLong:
        return add_table(root.table, root.levels, 0, root.levels);
    }
    return {};
  }

  Result<std::vector<Mapping>> finish() {
    TRY(join());
    std::ranges::sort(found_, {}, [](const Mapping& m) { return std::tie(m.linear, m.physical); });
    return std::move(found_);
  }

 private:
  // A table that is not RAM reads as not present.
  template <typename Entry, size_t kEntries>
  Result<std::array<Entry, kEntries>> read_table(uint64_t address) {
    if (++tables_ > limits_.tables)
      return fail("the guest's page tables are more than {}", limits_.tables);
    if (stop_.stop_requested()) return fail_errno(ECANCELED, "the guest's page tables");
    if (const auto table = memory_.read<std::array<Entry, kEntries>>({address})) return *table;
    return std::array<Entry, kEntries>{};
  }

  // A table at a place where another vCPU has it, too, is walked once. That is so for all of a
  // kernel's tables.
  Result<void> add_table(uint64_t address, unsigned level, uint64_t linear, unsigned top) {
    if (level > 1 && !walked_.emplace(address, level, linear).second) return {};
    const auto table = TRY((read_table<uint64_t, 512>(address)));
    for (uint64_t i = 0; i < table.size(); ++i) {
      const uint64_t entry = table[i];
      if ((entry & kPresent) == 0) continue;
      const unsigned shift = level_shift(level);
      uint64_t at = linear + (i << shift);
      // The upper bits of a linear address equal the highest that is translated (3.3.7.1).
      if (level == top && top >= 4 && i >= 256) at |= ~uint64_t{0} << (shift + 9);
      if (at > limits_.last || at + ((uint64_t{1} << shift) - 1) < limits_.first) continue;
      if (level == 1 || (level <= 3 && (entry & kLarge) != 0))
        TRY(add_mapping(at, entry & kAddressBits & (~uint64_t{0} << shift), uint64_t{1} << shift));
      else
        TRY(add_table(entry & kAddressBits, level - 1, at, top));
    }
    return {};
  }

  Result<void> add_pae(const Root& root) {
    const auto pointers = TRY((read_table<uint64_t, 4>(root.table)));
    for (uint64_t i = 0; i < pointers.size(); ++i)
      if ((pointers[i] & kPresent) != 0)
        TRY(add_table(pointers[i] & kAddressBits, 2, i << level_shift(3), 2));
    return {};
  }

  Result<void> add_32_bit(const Root& root) {
    constexpr unsigned kDirectoryShift = 22;
    const auto directory = TRY((read_table<uint32_t, 1024>(root.table)));
    for (uint64_t i = 0; i < directory.size(); ++i) {
      const uint64_t entry = directory[i];
      const uint64_t linear = i << kDirectoryShift;
      if ((entry & kPresent) == 0) continue;
      if (root.large_pages && (entry & kLarge) != 0) {
        // Bits 20 to 13 are bits 39 to 32 of the address (table 4-4).
        const uint64_t high = (entry >> 13 & 0xff) << 32;
        TRY(add_mapping(linear, high | (entry & 0xffc0'0000), 1 << kDirectoryShift));
        continue;
      }
      const auto table = TRY((read_table<uint32_t, 1024>(entry & 0xffff'f000)));
      for (uint64_t k = 0; k < table.size(); ++k)
        if ((table[k] & kPresent) != 0)
          TRY(add_mapping(linear + (k << kPageShift), table[k] & 0xffff'f000, 1 << kPageShift));
    }
    return {};
  }

  Result<void> add_mapping(uint64_t linear, uint64_t physical, uint64_t size_bytes) {
    if (!found_.empty()) {
      Mapping& last = found_.back();
      if (last.linear + last.size_bytes == linear && last.physical + last.size_bytes == physical) {
        last.size_bytes += size_bytes;
        return {};
      }
    }
    found_.push_back({linear, physical, size_bytes});
    // Joins what another vCPU has added before it counts.
    if (found_.size() >= 2 * limits_.mappings) TRY(join());
    return {};
  }

  // Makes one of mappings that overlap or touch. Those of one distance between linear and
  // physical addresses are intervals on one line. An interval may end at 2^64, which is 0.
  Result<void> join() {
    std::ranges::sort(found_, {}, [](const Mapping& m) {
      return std::tuple(m.linear - m.physical, m.linear, m.size_bytes);
    });
    size_t kept = 0;
    for (const Mapping& next : found_) {
      if (kept > 0) {
        Mapping& last = found_[kept - 1];
        const uint64_t gap = next.linear - last.linear;
        if (next.linear - next.physical == last.linear - last.physical && gap <= last.size_bytes) {
          last.size_bytes = std::max(last.size_bytes, gap + next.size_bytes);
          continue;
        }
      }
      found_[kept++] = next;
    }
    found_.resize(kept);
    if (kept > limits_.mappings)
      return fail("the guest's page tables map more than {} ranges", limits_.mappings);
    return {};
  }

  const GuestMemory& memory_;
  const WalkLimits limits_;
  const std::stop_token stop_;
  uint64_t tables_ = 0;
  std::set<std::tuple<uint64_t, unsigned, uint64_t>> walked_;  // address, level, linear
  std::vector<Mapping> found_;
};

}  // namespace

bool has_paging(const vmm::CpuRegisters& cpu) { return (cpu.cr0 & kCr0Paging) != 0; }

Result<std::vector<Mapping>> walk_page_tables(const GuestMemory& memory,
                                              std::span<const vmm::CpuRegisters> cpus,
                                              const WalkLimits& limits, std::stop_token stop) {
  std::vector<Root> roots;
  for (const vmm::CpuRegisters& cpu : cpus)
    if (has_paging(cpu)) roots.push_back(root_of(cpu));
  std::ranges::sort(roots);
  roots.erase(std::ranges::unique(roots).begin(), roots.end());
  Walk walk(memory, limits, std::move(stop));
  for (const Root& root : roots) TRY(walk.add(root));
  return walk.finish();
}

}  // namespace wick::debug
