// What the fuzzers of devices share: a promise whose breach is a finding, and a
// loop that runs when the script says so.
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

// One round.
inline void run_loop() {
  loop().stop();
  loop().run();
}

}  // namespace wick::fuzz
