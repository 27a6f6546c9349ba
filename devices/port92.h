// System control port A, at port 0x92: the fast A20 gate and a reset of the CPU, as firmware and
// boot loaders use them instead of the keyboard controller. The A20 gate is a bit that the guest
// can write and read; it does not change the memory.
//
// Thread rule: any vCPU thread; locks itself. `on_reset` is called without the lock, on the
// vCPU's thread, each time the guest sets the reset bit.
//
// Specification: IBM PS/2 Model 80 Technical Reference, "System Control Port A".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/bus.h"
#include "base/mutex.h"

namespace wick::devices {

class Port92 final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 1;
  static constexpr uint8_t kFastReset = 0x01;
  static constexpr uint8_t kGateA20 = 0x02;

  explicit Port92(std::function<void()> on_reset) : on_reset_(std::move(on_reset)) {}

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;
  Name name_of(uint64_t offset, bool write) const override;

 private:
  const std::function<void()> on_reset_;

  Mutex mutex_;
  uint8_t value_ GUARDED_BY(mutex_) = kGateA20;  // as firmware leaves it
};

}  // namespace wick::devices
