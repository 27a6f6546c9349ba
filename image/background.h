// Goes on in the background: the command's caller waits until the service is ready, and the service
// goes on in a new process without a terminal.
//
// Thread rule: before the process has a second thread; ready() on the main thread.
#pragma once

#include <optional>

#include "base/fd.h"
#include "base/result.h"

namespace wick::image {

class Background {
 public:
  // Forks. In the new process the result has a Background. In the caller's process it is returned
  // later, with the exit status: 0 when the service is ready, else that of the new process.
  struct Split;
  static Result<Split> split();

  // Leaves the session and the terminal, and lets the caller go on.
  void ready();

 private:
  explicit Background(Fd to_caller) : to_caller_(std::move(to_caller)) {}
  Fd to_caller_;
};

struct Background::Split {
  std::optional<Background> service;  // in the new process
  int status = 0;                     // in the caller's
};

}  // namespace wick::image
