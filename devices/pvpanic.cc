#include "devices/pvpanic.h"

#include <algorithm>

namespace wick::devices {

void Pvpanic::read(uint64_t offset, std::span<std::byte> data) {
  std::ranges::fill(data, std::byte{0xff});
  if (offset == 0 && !data.empty()) data[0] = std::byte{kPanicked | kCrashLoaded};
}

void Pvpanic::write(uint64_t offset, std::span<const std::byte> data) {
  if (offset != 0 || data.empty()) return;
  // Unsupported events are ignored.
  const auto events = std::to_integer<uint8_t>(data[0]);
  if ((events & kPanicked) != 0) actions_.panicked();
  if ((events & kCrashLoaded) != 0) actions_.crash_loaded();
}

}  // namespace wick::devices
