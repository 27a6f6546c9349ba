// Executes the actions of hostnet/plan.h on this host.
#pragma once

#include "base/result.h"
#include "hostnet/plan.h"

namespace wick::hostnet {

// Its function is virtual, so that tests can intercept actions.
class Executor {
 public:
  virtual ~Executor() = default;
  // Executes an action. The error contains the command and its output on stderr.
  virtual Result<void> execute(const Action& action);
};

}  // namespace wick::hostnet
