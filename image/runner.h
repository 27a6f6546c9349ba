// A loop and an I/O engine for an image command, whose code waits for each step.
#pragma once

#include <memory>
#include <utility>

#include "base/event_loop.h"
#include "block/async_io.h"

namespace wick::image {

class ImageRunner {
 public:
  static Result<std::unique_ptr<ImageRunner>> create() {
    std::unique_ptr<ImageRunner> runner(new ImageRunner);
    runner->thread_ = TRY(LoopThread::start("image"));
    EventLoop& loop = runner->thread_->loop();
    runner->io_ = TRY(loop.call([&] { return block::AsyncIo::create(loop); }));
    return runner;
  }
  ~ImageRunner() {
    if (thread_) thread_->stop();
  }
  ImageRunner(const ImageRunner&) = delete;
  ImageRunner& operator=(const ImageRunner&) = delete;

  block::AsyncIo& io() { return *io_; }
  EventLoop& loop() { return thread_->loop(); }

  // Calls `start` on the loop and returns the result of the Task that it makes.
  template <typename F>
  auto run(F start) {
    using Made = decltype(start());
    return run_on(thread_->loop(),
                  [](F& function) -> Made { co_return co_await function(); }(start));
  }

 private:
  ImageRunner() = default;
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<block::AsyncIo> io_;
};

}  // namespace wick::image
