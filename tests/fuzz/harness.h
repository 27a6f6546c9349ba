// Shared by the fuzzers of devices: a check whose failure is a finding, and a loop that runs on
// request.
#pragma once

#include <cstdlib>
#include <memory>

#include "base/event_loop.h"

namespace wick::fuzz {

inline void require(bool promise) {
  if (!promise) std::abort();
}

inline EventLoop& loop() {
  static const auto instance = EventLoop::create().value();
  return *instance;
}

// Runs one round of the loop.
inline void run_loop() {
  loop().stop();
  loop().run();
}

}  // namespace wick::fuzz
