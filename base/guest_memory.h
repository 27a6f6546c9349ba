// The guest's RAM, and the only way to it. The guest runs while we read, so
// every address is checked as a whole range, and a structure is copied out
// once and only the copy is looked at (PITFALLS 27).
//
// Thread rule: the map never changes after create(); any thread may use it.
// The bytes themselves belong to the guest and may change at any moment.
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

// Wraps like the guest's own arithmetic; GuestMemory checks what comes out.
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

  // Maps zeroed memory for `ranges`: sorted, apart, multiples of the page
  // size. Pages are taken from the host when first touched, not before.
  static Result<GuestMemory> create(std::span<const Range> ranges);

  GuestMemory(GuestMemory&& other) noexcept;
  GuestMemory& operator=(GuestMemory&&) = delete;
  ~GuestMemory();

  // The host's view of [address, address + size_bytes); an error unless all of
  // it is RAM of one region. Valid as long as this object.
  Result<std::span<std::byte>> slice(GuestAddress address, size_t size_bytes) const;

  // One copy of a structure; a pointer into guest memory never leaks out.
  template <typename T>
  requires std::is_trivially_copyable_v<T> Result<T> read(GuestAddress address)
  const {
    const auto bytes = TRY(slice(address, sizeof(T)));
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    // The compiler must not read the guest's bytes again for a later use.
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

  // Gives pages back to the host: they read as zeroes from now on, and take
  // memory again when they are touched, or when the host's khugepaged makes a
  // huge page of them and of neighbours that are in use. An error unless it is
  // whole pages, all RAM of one region. `pages` must be from slice().
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
