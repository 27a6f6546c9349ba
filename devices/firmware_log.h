// The port to which SeaBIOS and OVMF write their log, a character at a time. Each character costs a
// VM exit, so the device is present only if the log is shown (-vv). Without the device the firmware
// reads all ones at the port and writes nothing.
//
// Thread rule: any vCPU thread; locks itself. `line` is called with the lock held.
//
// Specification: Bochs' and QEMU's debug console (isa-debugcon, read-back value 0xe9).
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "base/bus.h"
#include "base/mutex.h"

namespace wick::devices {

class FirmwareLog final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 1;
  static constexpr size_t kMaxLineBytes = 256;  // a longer line is split

  // `line` is called with each line, without its line end.
  explicit FirmwareLog(std::function<void(const std::string&)> line) : line_(std::move(line)) {}

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  const std::function<void(const std::string&)> line_;

  Mutex mutex_;
  std::string text_ GUARDED_BY(mutex_);
};

}  // namespace wick::devices
