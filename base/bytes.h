// Loads and stores of integers in byte buffers, which may be unaligned: little-endian for
// x86, virtio and PCI, big-endian for qcow2.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace wick {

static_assert(std::endian::native == std::endian::little);

// Returns the first sizeof(T) bytes of `from`, zero-extended if there are fewer.
template <typename T>
requires std::is_trivially_copyable_v<T> T load_le(std::span<const std::byte> from) {
  T value{};
  if (!from.empty()) std::memcpy(&value, from.data(), std::min(sizeof(T), from.size()));
  return value;
}

// Fills `to` with the low bytes of `value`, and pads it with zeroes past sizeof(T).
template <typename T>
requires std::is_trivially_copyable_v<T>
void store_le(std::span<std::byte> to, T value) {
  const size_t copied = std::min(sizeof(T), to.size());
  if (copied > 0) std::memcpy(to.data(), &value, copied);
  std::fill(to.begin() + static_cast<std::ptrdiff_t>(copied), to.end(), std::byte{0});
}

// load_be() and store_be() need at least sizeof(T) bytes in `from` and `to`.
template <typename T>
requires std::is_unsigned_v<T> T load_be(std::span<const std::byte> from) {
  T value{};
  std::memcpy(&value, from.data(), sizeof(T));
  return std::byteswap(value);
}

template <typename T>
requires std::is_unsigned_v<T>
void store_be(std::span<std::byte> to, T value) {
  value = std::byteswap(value);
  std::memcpy(to.data(), &value, sizeof(T));
}

inline std::span<const std::byte> as_bytes(const void* data, size_t size_bytes) {
  return {static_cast<const std::byte*>(data), size_bytes};
}

// Returns `value` rounded up to a multiple of `alignment`, which is a power of two. The caller
// ensures that the sum does not wrap.
constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

// Returns true if all bytes are 0, or if there are no bytes.
inline bool is_zero(std::span<const std::byte> bytes) {
  // If each byte equals the next one, all bytes equal the first, which is 0.
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace wick
