#include "devices/acpi_hotplug.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"

namespace wick::devices {

namespace {

constexpr uint64_t kUp = 0;
constexpr uint64_t kDown = 4;
constexpr uint64_t kEject = 8;

}  // namespace

void AcpiHotplug::read(uint64_t offset, std::span<std::byte> data) {
  std::ranges::fill(data, std::byte{0});
  if (data.size() != 4) return;
  const MutexLock lock(mutex_);
  if (offset == kUp) store_le(data, std::exchange(state_.up, 0));
  if (offset == kDown) store_le(data, std::exchange(state_.down, 0));
}

void AcpiHotplug::write(uint64_t offset, std::span<const std::byte> data) {
  if (offset != kEject || data.size() != 4) return;
  uint32_t slots = load_le<uint32_t>(data);
  {
    const MutexLock lock(mutex_);
    slots &= state_.occupied & ~state_.ejected;
    state_.ejected |= slots;
    state_.up &= ~slots;
    state_.down &= ~slots;
  }
  if (slots != 0) actions_.eject(slots);
}

BusDevice::Name AcpiHotplug::name_of(uint64_t offset, bool /*write*/) const {
  switch (offset) {
    case kUp:
      return {"UP", {}};
    case kDown:
      return {"DOWN", {}};
    case kEject:
      return {"EJECT", {}};
    default:
      return {};
  }
}

void AcpiHotplug::occupy(uint8_t slot) {
  const MutexLock lock(mutex_);
  state_.occupied |= bit(slot) & pluggable_;
}

void AcpiHotplug::continue_from(const State& state) {
  {
    const MutexLock lock(mutex_);
    state_.up = state.up & state_.occupied;
    state_.down = state.down & state_.occupied;
    state_.requested = state.requested & state_.occupied;
    if (state_.up == 0 && state_.down == 0) return;
  }
  actions_.raise();
}

void AcpiHotplug::plugged(uint8_t slot) {
  if (!pluggable(slot)) return;
  {
    const MutexLock lock(mutex_);
    state_.occupied |= bit(slot);
    state_.up |= bit(slot);
  }
  actions_.raise();
}

void AcpiHotplug::request_removal(uint8_t slot) {
  {
    const MutexLock lock(mutex_);
    const uint32_t wanted = bit(slot) & state_.occupied & ~state_.ejected;
    if (wanted == 0) return;
    state_.requested |= wanted;
    state_.down |= wanted;
  }
  actions_.raise();
}

void AcpiHotplug::removed(uint8_t slot) {
  const MutexLock lock(mutex_);
  const uint32_t kept = ~bit(slot);
  state_.up &= kept;
  state_.down &= kept;
  state_.occupied &= kept;
  state_.requested &= kept;
  state_.ejected &= kept;
}

AcpiHotplug::State AcpiHotplug::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

}  // namespace wick::devices
