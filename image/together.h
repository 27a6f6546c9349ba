// Runs a coroutine several times at once, to have several requests in flight.
//
// Thread rule: one EventLoop.
#pragma once

#include <coroutine>
#include <cstddef>

#include "base/result.h"
#include "base/task.h"

namespace wick::image {

// Calls `work`, which returns a Task<Result<void>>, `count` times and waits for all calls. Returns
// the first error. After an error the other calls go on, so `work` should check a common flag and
// return early.
template <typename Work>
Task<Result<void>> run_together(size_t count, const Work& work) {
  struct Shared {
    size_t running = 0;
    std::coroutine_handle<> waiting = {};
    Result<void> result = {};
  };
  struct AllDone {
    Shared& shared;
    bool await_ready() const { return shared.running == 0; }
    void await_suspend(std::coroutine_handle<> handle) const { shared.waiting = handle; }
    void await_resume() const {}
  };
  const auto one = [](const Work& function, Shared& shared) -> Task<void> {
    auto done = co_await function();
    if (!done && shared.result) shared.result = std::move(done);
    if (--shared.running == 0 && shared.waiting) shared.waiting.resume();
  };
  Shared shared{.running = count};
  for (size_t i = 0; i < count; ++i) spawn(one(work, shared));
  co_await AllDone{shared};
  co_return std::move(shared.result);
}

}  // namespace wick::image
