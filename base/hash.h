// A hash that is stable across builds, for values derived from a name (MAC addresses,
// subnets). It does not resist chosen input.
//
// Specification: FNV-1a, 64 bits (RFC 9923).
#pragma once

#include <cstdint>
#include <string_view>

namespace wick {

constexpr uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf2'9ce4'8422'2325;
  for (const char c : text) {
    hash ^= static_cast<uint8_t>(c);
    hash *= 0x100'0000'01b3;
  }
  return hash;
}

}  // namespace wick
