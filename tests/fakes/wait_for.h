// Waiting for another thread, in a test: as short as possible, and never for
// ever.
#pragma once

#include <chrono>
#include <thread>

namespace wick::fakes {

// True as soon as `condition` is; false when it still is not after a time that
// only a hang needs.
template <typename Condition>
bool wait_for(Condition condition, std::chrono::seconds patience = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

}  // namespace wick::fakes
