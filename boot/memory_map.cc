#include "boot/memory_map.h"

#include <algorithm>

namespace wick::boot {

std::vector<MemoryMapEntry> memory_map(const GuestMemory& memory) {
  using Type = MemoryMapEntry::Type;
  std::vector<MemoryMapEntry> map;
  for (const GuestMemory::Region& region : memory.regions()) {
    const uint64_t start = region.start.value;
    const uint64_t end = start + region.size_bytes;
    if (start < kConventionalEnd)
      map.push_back({start, std::min(end, kConventionalEnd) - start, Type::kUsable});
    if (start <= kConventionalEnd && end > kConventionalEnd)
      map.push_back({kConventionalEnd, kHighMemory - kConventionalEnd, Type::kReserved});
    const uint64_t high = std::max(start, kHighMemory);
    if (high < end) map.push_back({high, end - high, Type::kUsable});
  }
  return map;
}

Result<void> check_low_memory(const GuestMemory& memory) {
  // Both ranges are checked separately: a machine with a screen has a hole between them.
  if (memory.find({0}, kConventionalEnd) != nullptr &&
      memory.find(kAcpiTables, kHighMemory + 1 - kAcpiTables.value) != nullptr)
    return {};
  return with_hint(
      fail("guest memory: {} KiB are too little to load a kernel", memory.size_bytes() >> 10),
      "give more than 1 MiB with --memory");
}

}  // namespace wick::boot
