#include "boot/initrd.h"

#include <algorithm>

#include "boot/memory_map.h"

namespace wick::boot {

namespace {

constexpr uint64_t kPageMask = ~uint64_t{4095};

// Returns the highest page-aligned address at which `size_bytes` fit into [start, end).
std::optional<uint64_t> highest(uint64_t size_bytes, uint64_t start, uint64_t end) {
  if (end < size_bytes) return std::nullopt;
  const uint64_t place = (end - size_bytes) & kPageMask;
  if (place < start) return std::nullopt;
  return place;
}

}  // namespace

std::optional<GuestMemory::Range> place_initrd(const GuestMemory& memory, uint64_t size_bytes,
                                               uint64_t end, GuestMemory::Range kernel) {
  const uint64_t kernel_start = kernel.start.value;
  const uint64_t kernel_end = kernel_start + kernel.size_bytes;
  std::optional<uint64_t> best;
  for (const GuestMemory::Region& region : memory.regions()) {
    const uint64_t region_start = std::max(region.start.value, kHighMemory);
    const uint64_t region_end = std::min(region.start.value + region.size_bytes, end);
    // std::max() works because std::nullopt is less than any value.
    best = std::max({best, highest(size_bytes, std::max(region_start, kernel_end), region_end),
                     highest(size_bytes, region_start, std::min(region_end, kernel_start))});
  }
  if (!best) return std::nullopt;
  return GuestMemory::Range{{*best}, size_bytes};
}

Result<void> load_initrd(const GuestMemory& memory, const InputFile& file,
                         GuestMemory::Range range) {
  const auto to = TRY(memory.slice(range.start, range.size_bytes));
  return file.read(0, to);
}

}  // namespace wick::boot
