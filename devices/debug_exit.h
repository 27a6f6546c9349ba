// The port by which a guest ends the run with an exit status of its own: QEMU's isa-debug-exit.
// kvm-unit-tests and the test runners of many kernels report their verdict this way.
//
// Thread rule: any vCPU thread; the action is called on that thread. The guest runs on until the
// machine has stopped it, and may write again.
//
// Specification: QEMU, docs/system and hw/misc/debugexit.c ("isa-debug-exit").
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/bus.h"

namespace wick::devices {

class DebugExit final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 4;  // enough for a write of 32 bits

  // `ended` is called with the value of each write.
  explicit DebugExit(std::function<void(uint32_t value)> ended) : ended_(std::move(ended)) {}

  // Returns wick's exit status for the guest's value. A process has 8 bits of exit status. The
  // lowest bit is always 1, so that no value of the guest is taken for a success of wick itself.
  static constexpr uint8_t exit_status(uint32_t value) {
    return static_cast<uint8_t>(value << 1 | 1);
  }

  // Returns zeroes, as QEMU's device does.
  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  const std::function<void(uint32_t)> ended_;
};

}  // namespace wick::devices
