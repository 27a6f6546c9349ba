#include "base/guest_memory.h"

#include <sys/mman.h>

#include "base/bytes.h"

namespace wick {

namespace {
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2 << 20;

// Maps memory at an address that lets the host back each 2 MiB of the guest with one huge page.
// Without huge pages the guest takes 512 page faults for each 2 MiB.
std::byte* map_aligned(uint64_t size_bytes) {
  const uint64_t reserved = size_bytes + kHugePageBytes;
  if (reserved < size_bytes) {
    errno = ENOMEM;
    return nullptr;
  }
  void* mapping = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(mapping);
  const uint64_t skip = align_up(reinterpret_cast<uint64_t>(begin), kHugePageBytes) -
                        reinterpret_cast<uint64_t>(begin);
  if (skip > 0) ::munmap(begin, skip);
  ::munmap(begin + skip + size_bytes, kHugePageBytes - skip);
  // Best effort: without huge pages the guest is slower, not wrong.
  (void)::madvise(begin + skip, size_bytes, MADV_HUGEPAGE);
  return begin + skip;
}
}  // namespace

Result<GuestMemory> GuestMemory::create(std::span<const Range> ranges) {
  GuestMemory memory;
  uint64_t previous_end = 0;
  for (const Range& range : ranges) {
    if (range.size_bytes == 0 || range.size_bytes % kPageBytes != 0 ||
        range.start.value % kPageBytes != 0 || range.start.value < previous_end ||
        range.start.value + range.size_bytes < range.start.value)
      return fail("guest memory: bad range {:#x} + {:#x}", range.start.value, range.size_bytes);
    previous_end = range.start.value + range.size_bytes;
    std::byte* host = map_aligned(range.size_bytes);
    if (host == nullptr)
      return with_hint(fail_errno(errno, "guest memory: cannot map {} MiB", range.size_bytes >> 20),
                       "ask for less with --memory");
    memory.regions_.push_back({range.start, range.size_bytes, host});
  }
  return memory;
}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept : regions_(std::move(other.regions_)) {
  other.regions_.clear();
}

GuestMemory::~GuestMemory() {
  for (const Region& region : regions_) ::munmap(region.host, region.size_bytes);
}

Result<std::span<std::byte>> GuestMemory::slice(GuestAddress address, size_t size_bytes) const {
  if (std::byte* const found = find(address, size_bytes); found != nullptr)
    return std::span(found, size_bytes);
  return fail("guest address {:#x} + {:#x} is not RAM", address.value, size_bytes);
}

// MADV_DONTNEED frees the pages of a private anonymous mapping; a file mapping would need
// MADV_REMOVE. Host and guest addresses have the same offset in a page, because regions are
// page-aligned in both.
Result<void> GuestMemory::discard(std::span<std::byte> pages) {
  if (reinterpret_cast<uint64_t>(pages.data()) % kPageBytes != 0 || pages.size() % kPageBytes != 0)
    return fail("guest memory: {} bytes to discard are not whole pages", pages.size());
  if (!pages.empty() && ::madvise(pages.data(), pages.size(), MADV_DONTNEED) != 0)
    return fail_errno(errno, "guest memory: cannot discard {} bytes", pages.size());
  return {};
}

uint64_t GuestMemory::size_bytes() const {
  uint64_t total = 0;
  for (const Region& region : regions_) total += region.size_bytes;
  return total;
}

}  // namespace wick
