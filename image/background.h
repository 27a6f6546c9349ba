// Moves a service to the background: the process that the user started waits until the service is
// ready, and the service continues in a new process without a terminal.
//
// Thread rule: split() before the process has a second thread; ready() on the main thread.
#pragma once

#include <optional>

#include "base/fd.h"
#include "base/result.h"

namespace wick::image {

class Background {
 public:
  // The result of split(). Both processes get a Split; in each process only its own member has a
  // meaning.
  struct Split;
  // Forks. In the new process, returns a Background at once. In the caller's process, returns an
  // exit status later: 0 when the service is ready. If the new process ends earlier, the status is
  // that of the new process, or 1 if that is 0.
  static Result<Split> split();

  // Leaves the session and the terminal, and lets the caller go on.
  void ready();

 private:
  explicit Background(Fd to_caller) : to_caller_(std::move(to_caller)) {}
  Fd to_caller_;
};

struct Background::Split {
  std::optional<Background> service;  // in the new process
  int status = 0;                     // in the caller's process
};

}  // namespace wick::image
