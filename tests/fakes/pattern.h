// Bytes that a test recognises.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace wick::fakes {

// Pseudo-random bytes, other ones for each seed.
inline std::vector<std::byte> pattern(size_t size_bytes, uint32_t seed) {
  std::minstd_rand random(seed + 1);  // 0 and 1 would be one seed
  std::vector<std::byte> bytes(size_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() >> 8);
  return bytes;
}

}  // namespace wick::fakes
