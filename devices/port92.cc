#include "devices/port92.h"

#include <algorithm>
#include <utility>

namespace wick::devices {

void Port92::read(uint64_t /*offset*/, std::span<std::byte> data) {
  const MutexLock lock(mutex_);
  std::ranges::fill(data, std::byte{value_});
}

void Port92::write(uint64_t /*offset*/, std::span<const std::byte> data) {
  if (data.empty()) return;
  const auto value = std::to_integer<uint8_t>(data.front());
  uint8_t before = 0;
  {
    const MutexLock lock(mutex_);
    before = std::exchange(value_, value);
  }
  // Only the rising edge of the bit resets the CPU, because programs that change only A20 write
  // back the reset bit that they read.
  if ((value & kFastReset) != 0 && (before & kFastReset) == 0) on_reset_();
}

BusDevice::Name Port92::name_of(uint64_t /*offset*/, bool /*write*/) const {
  return {"control A", {}};
}

}  // namespace wick::devices
