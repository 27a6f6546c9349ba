// Doing and undoing what cli/net_plan.h lists, with a state file that is true
// before and after each step: whatever ends wick in between, `wick net down` finds
// what was made.
#pragma once

#include "cli/net.h"
#include "cli/net_plan.h"

namespace wick::cli {

// Who carries out an action; tests stand in between.
class Performer {
 public:
  virtual ~Performer() = default;
  virtual Result<void> perform(const Action& action);
};

Result<int> net_up(const NetUp& wanted, Performer& performer);
Result<int> net_down(const NetDown& wanted, Performer& performer);

}  // namespace wick::cli
