// The size of a terminal, and its changes.
#pragma once

#include <functional>
#include <optional>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"
#include "console/backend.h"

namespace wick::console {

// nullopt if `fd` is no terminal.
std::optional<Size> size_of_terminal(int fd);

// Calls a function when the terminal of the process may have changed its size.
//
// Thread rule: the loop's thread.
class ResizeWatch {
 public:
  // Blocks SIGWINCH in the calling thread, and so in those that it starts later. A thread that does
  // not block it would swallow it.
  static Result<ResizeWatch> create(EventLoop& loop, std::function<void()> resized);

 private:
  ResizeWatch(Fd signal, EventLoop::Watch watch)
      : signal_(std::move(signal)), watch_(std::move(watch)) {}

  Fd signal_;
  EventLoop::Watch watch_;
};

}  // namespace wick::console
