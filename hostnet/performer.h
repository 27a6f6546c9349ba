// Carries out the actions of hostnet/plan.h on this host.
#pragma once

#include "base/result.h"
#include "hostnet/plan.h"

namespace wick::hostnet {

// Tests stand in between.
class Performer {
 public:
  virtual ~Performer() = default;
  // The error names the command, and says what it said.
  virtual Result<void> perform(const Action& action);
};

}  // namespace wick::hostnet
