// A thread with an event loop and an I/O engine: the thread of a guest's disk, or of a
// `wick image` command.
//
// Thread rule: one other thread creates it, calls run() and destroys it.
#pragma once

#include <memory>
#include <string>

#include "base/event_loop.h"
#include "block/async_io.h"

namespace wick::block {

class IoThread {
 public:
  // `name` is shown by top and gdb (15 characters of it).
  static Result<std::unique_ptr<IoThread>> create(const std::string& name) {
    std::unique_ptr<IoThread> self(new IoThread);
    self->thread_ = TRY(LoopThread::start(name));
    self->io_ = TRY(self->loop().call([&] { return AsyncIo::create(self->loop()); }));
    return self;
  }
  // No I/O may be in flight.
  ~IoThread() { stop(); }
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  EventLoop& loop() { return thread_->loop(); }
  AsyncIo& io() { return *io_; }
  // Joins the thread. May be called again.
  void stop() {
    if (thread_) thread_->stop();
  }

  // Calls `start`, which returns a Task, on the loop. Waits for the Task and returns its result.
  template <typename Start>
  auto run(Start start) {
    using Made = decltype(start());
    return run_on(loop(), [](Start& function) -> Made { co_return co_await function(); }(start));
  }

 private:
  IoThread() = default;
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<AsyncIo> io_;
};

}  // namespace wick::block
