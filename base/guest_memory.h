// The guest's RAM. All of wick's accesses to it go through GuestMemory, which checks each
// address range as a whole. The guest may write while wick reads, so a structure is copied
// once and only the copy is used (PITFALLS 27).
//
// Thread rule: the map never changes after create(); any thread may use it. The guest may
// change the bytes at any moment.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace wick {

// A guest physical address.
struct GuestAddress {
  uint64_t value = 0;
  auto operator<=>(const GuestAddress&) const = default;
};

// The sum wraps, as the guest's own arithmetic does; GuestMemory checks the result.
constexpr GuestAddress operator+(GuestAddress address, uint64_t offset_bytes) {
  return {address.value + offset_bytes};
}

class GuestMemory {
 public:
  struct Range {
    GuestAddress start;
    uint64_t size_bytes = 0;
  };
  struct Region {
    GuestAddress start;
    uint64_t size_bytes = 0;
    std::byte* host = nullptr;
  };

  // Maps zeroed memory for `ranges`, which must be sorted, disjoint, and multiples of the
  // page size. The host allocates a page when it is first touched.
  static Result<GuestMemory> create(std::span<const Range> ranges);

  GuestMemory(GuestMemory&& other) noexcept;
  GuestMemory& operator=(GuestMemory&&) = delete;
  ~GuestMemory();

  // Returns the host's view of [address, address + size_bytes), valid as long as this object. Fails
  // unless all of the range is RAM of one region.
  Result<std::span<std::byte>> slice(GuestAddress address, size_t size_bytes) const;

  // As slice(), but returns nullptr instead of an error.
  std::byte* find(GuestAddress address, size_t size_bytes) const {
    for (const Region& region : regions_) {
      const uint64_t offset = address.value - region.start.value;  // wraps when below the region
      if (offset < region.size_bytes && size_bytes <= region.size_bytes - offset)
        return region.host + offset;
    }
    return nullptr;
  }

  // Copies a structure out of guest memory.
  template <typename T>
  requires std::is_trivially_copyable_v<T> Result<T> read(GuestAddress address)
  const {
    const auto bytes = TRY(slice(address, sizeof(T)));
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    // Keeps the compiler from reading guest memory again where `value` is used.
    asm volatile("" ::: "memory");
    return value;
  }

  template <typename T>
  requires std::is_trivially_copyable_v<T> Result<void> write(GuestAddress address, const T& value)
  const {
    const auto bytes = TRY(slice(address, sizeof(T)));
    std::memcpy(bytes.data(), &value, sizeof(T));
    return {};
  }

  Result<void> write_bytes(GuestAddress address, std::span<const std::byte> bytes) const {
    const auto to = TRY(slice(address, bytes.size()));
    if (!bytes.empty()) std::memcpy(to.data(), bytes.data(), bytes.size());
    return {};
  }

  // Gives pages back to the host: they read as zeroes from now on. The host allocates them again
  // when they are touched, or when khugepaged merges them into a huge page with neighbours in use.
  // Fails unless the range consists of whole pages of RAM in one region. `pages` must come from
  // slice().
  Result<void> discard(GuestAddress address, size_t size_bytes) const {
    return discard(TRY(slice(address, size_bytes)));
  }
  static Result<void> discard(std::span<std::byte> pages);

  std::span<const Region> regions() const { return regions_; }
  uint64_t size_bytes() const;

 private:
  GuestMemory() = default;
  std::vector<Region> regions_;
};

}  // namespace wick
