// Threads for long computations, so that they do not block a loop.
//
// Thread rule: call run() on the EventLoop; the awaiting coroutine resumes there.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/event_loop.h"
#include "base/mutex.h"
#include "base/result.h"

namespace wick::image {

class Workers {
 public:
  // Starts a thread for each processor of the host, at most 16. `loop` must outlive them.
  // No job may be queued or running at destruction.
  static Result<std::unique_ptr<Workers>> start(EventLoop& loop);
  ~Workers();

  size_t count() const { return threads_.size(); }

  class Job {
   public:
    Job(Workers& workers, std::function<void()> work) : workers_(workers), work_(std::move(work)) {}
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> awaiting) {
      awaiting_ = awaiting;
      workers_.queue(*this);
    }
    void await_resume() const {}

   private:
    friend class Workers;
    Workers& workers_;
    const std::function<void()> work_;
    std::coroutine_handle<> awaiting_;
  };

  // Runs `work` on one of the threads. The caller must co_await the job.
  Job run(std::function<void()> work) { return {*this, std::move(work)}; }

 private:
  explicit Workers(EventLoop& loop) : loop_(loop) {}
  void queue(Job& job);
  void work();

  EventLoop& loop_;
  std::vector<std::thread> threads_;

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Job*> jobs_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace wick::image
