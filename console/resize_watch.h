// Reports the size of a terminal, and its changes.
#pragma once

#include <functional>
#include <optional>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"
#include "console/backend.h"

namespace wick::console {

// Returns nullopt if `fd` is not a terminal.
std::optional<Size> size_of_terminal(int fd);

// Calls a function after SIGWINCH, that is, when the terminal's size may have changed.
//
// Thread rule: the loop's thread.
class ResizeWatch {
 public:
  // Blocks SIGWINCH in the calling thread and in threads that it starts later. All threads must
  // block the signal: it would be lost if it were delivered to a thread that does not.
  static Result<ResizeWatch> create(EventLoop& loop, std::function<void()> resized);

 private:
  ResizeWatch(Fd signal, EventLoop::Watch watch)
      : signal_(std::move(signal)), watch_(std::move(watch)) {}

  Fd signal_;
  EventLoop::Watch watch_;
};

}  // namespace wick::console
