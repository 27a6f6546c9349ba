// A hash that stays the same from build to build: for what is derived from a name
// and must not change. Not for anything that an adversary may choose.
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
