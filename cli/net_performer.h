// Carries out the actions of cli/net_plan.h on this host.
#pragma once

#include "cli/net.h"
#include "cli/net_plan.h"

namespace wick::cli {

// Tests stand in between.
class Performer {
 public:
  virtual ~Performer() = default;
  // The error names the command, and says what it said.
  virtual Result<void> perform(const Action& action);
};

// carry_out() of cli/net.h, by this performer.
Result<int> net_up(const NetUp& wanted, Performer& performer);
Result<int> net_down(const NetDown& wanted, Performer& performer);

}  // namespace wick::cli
