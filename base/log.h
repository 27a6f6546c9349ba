// Rate-limited logging, for messages that a guest can provoke: a hostile guest must not fill
// the host's disk with log lines.
#pragma once

#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace wick {

// Logs at most kPerSecond lines in each second of the steady clock. The number of dropped lines is
// logged before the next line that passes. Any thread may call it.
class RateLimit {
 public:
  template <typename... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) {
    if (!admit()) return;
    const uint64_t dropped = dropped_.exchange(0);
    if (dropped > 0) spdlog::warn("({} similar messages left out)", dropped);
    spdlog::warn(format, std::forward<Args>(args)...);
  }

 private:
  static constexpr uint32_t kPerSecond = 5;

  bool admit() {
    const auto now = std::chrono::duration_cast<std::chrono::seconds>(
                         std::chrono::steady_clock::now().time_since_epoch())
                         .count();
    if (second_.exchange(now) != now) lines_ = 0;
    if (lines_.fetch_add(1) < kPerSecond) return true;
    dropped_.fetch_add(1);
    return false;
  }

  std::atomic<int64_t> second_{-1};
  std::atomic<uint32_t> lines_{0};
  std::atomic<uint64_t> dropped_{0};
};

}  // namespace wick
