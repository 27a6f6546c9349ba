// The paravirtual panic device: one port by which a guest's kernel reports a panic.
// Linux (CONFIG_PVPANIC) finds it in ACPI as QEMU0001.
//
// Thread rule: any vCPU thread; the actions are called on that thread, once for each
// report.
//
// Specification: QEMU, docs/specs/pvpanic.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/bus.h"

namespace wick::devices {

class Pvpanic final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 1;
  // Event bits. A read returns the supported events; a write reports events.
  static constexpr uint8_t kPanicked = 1;
  static constexpr uint8_t kCrashLoaded = 2;

  struct Actions {
    std::function<void()> panicked;
    std::function<void()> crash_loaded;  // the guest panicked and starts its crash kernel
  };

  explicit Pvpanic(Actions actions) : actions_(std::move(actions)) {}

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  const Actions actions_;
};

}  // namespace wick::devices
