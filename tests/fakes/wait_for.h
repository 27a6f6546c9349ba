// Waits for another thread in a test, as briefly as possible and with a time limit.
#pragma once

#include <chrono>
#include <thread>

namespace wick::fakes {

// Returns true as soon as `condition` is true; false if that takes so long that the test
// must hang.
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
