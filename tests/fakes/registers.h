// Single accesses to a device's registers, as a guest makes them.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/bus.h"
#include "base/bytes.h"

namespace wick::fakes {

// Access sizes in bytes. KVM splits an access that crosses a page, so the odd sizes occur.
constexpr std::array<size_t, 8> kWidths = {1, 2, 3, 4, 5, 6, 7, 8};

inline uint64_t read_register(BusDevice& device, uint64_t offset, size_t width) {
  std::array<std::byte, 8> data{};
  device.read(offset, std::span(data).first(width));
  return load_le<uint64_t>(data);
}

inline void write_register(BusDevice& device, uint64_t offset, uint64_t value, size_t width) {
  device.write(offset, as_bytes(&value, width));
}

// The value that a read of this width returns where there is no device.
constexpr uint64_t all_ones(size_t width) { return ~0ull >> (64 - 8 * width); }

}  // namespace wick::fakes
