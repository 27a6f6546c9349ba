// The paravirtual panic device: one port, through which a guest's kernel says
// that it panicked. Linux (CONFIG_PVPANIC) finds it in ACPI, as QEMU0001.
//
// Thread rule: any vCPU thread. The callbacks are called on it, each time the
// guest says so.
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
  // Events: what the port gives when read, and what is written to it.
  static constexpr uint8_t kPanicked = 1;
  static constexpr uint8_t kCrashLoaded = 2;

  struct Actions {
    std::function<void()> panicked;
    std::function<void()> crash_loaded;  // it panicked, and a kernel loaded for that goes on
  };

  explicit Pvpanic(Actions actions) : actions_(std::move(actions)) {}

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  const Actions actions_;
};

}  // namespace wick::devices
