#include "devices/debug_exit.h"

#include <algorithm>

#include "base/bytes.h"

namespace wick::devices {

void DebugExit::read(uint64_t, std::span<std::byte> data) { std::ranges::fill(data, std::byte{0}); }

void DebugExit::write(uint64_t offset, std::span<const std::byte> data) {
  if (offset != 0 || data.empty()) return;
  ended_(load_le<uint32_t>(data.first(std::min(data.size(), sizeof(uint32_t)))));
}

}  // namespace wick::devices
