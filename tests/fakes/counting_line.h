// Fake interrupt line that counts edges and calls.
//
// Thread rule: any thread may call any function.
#pragma once

#include <atomic>

#include "base/interrupt.h"

namespace wick::fakes {

class CountingLine final : public InterruptLine {
 public:
  void pulse() override { ++pulses_; }
  void set(bool asserted) override {
    ++sets_;
    if (!level_.exchange(asserted) && asserted) ++edges_;
  }

  int pulses() const { return pulses_; }
  bool level() const { return level_; }
  int edges() const { return edges_; }  // from low to high
  int sets() const { return sets_; }    // calls of set(), each of which may cost an ioctl

 private:
  std::atomic<int> pulses_ = 0;
  std::atomic<bool> level_ = false;
  std::atomic<int> edges_ = 0;
  std::atomic<int> sets_ = 0;
};

}  // namespace wick::fakes
