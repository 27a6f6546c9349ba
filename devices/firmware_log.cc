#include "devices/firmware_log.h"

#include <algorithm>

namespace wick::devices {

namespace {

constexpr std::byte kReadBack{0xe9};

}  // namespace

void FirmwareLog::read(uint64_t /*offset*/, std::span<std::byte> data) {
  std::ranges::fill(data, kReadBack);
}

void FirmwareLog::write(uint64_t /*offset*/, std::span<const std::byte> data) {
  const MutexLock lock(mutex_);
  for (const std::byte byte : data) {
    const auto character = static_cast<char>(byte);
    const bool ends = character == '\n';
    if (!ends && character != '\r') text_ += character;
    if (!ends && text_.size() < kMaxLineBytes) continue;
    line_(text_);
    text_.clear();
  }
}

}  // namespace wick::devices
