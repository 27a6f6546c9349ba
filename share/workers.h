// Threads that execute the host calls of one share, so that a slow call delays neither the device's
// loop nor the other requests.
//
// Thread rule: any thread but the workers may call submit() and wait_idle().
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"

namespace wick::share {

class Workers {
 public:
  // Starts the first of at most `count` threads, which top shows as `name`. The others start when
  // they are needed. Fails if the host does not even allow the first.
  static Result<std::unique_ptr<Workers>> start(const std::string& name, size_t count);
  // Executes what was submitted, then joins the threads.
  ~Workers();

  // Executes `work` on one of the threads, in any order with other work. The caller bounds
  // the amount of work.
  void submit(std::function<void()> work) EXCLUDES(mutex_);
  // Returns when everything that was submitted has been executed.
  void wait_idle() EXCLUDES(mutex_);

 private:
  Workers(const std::string& name, size_t count) : name_(name), count_(count) {}
  Result<void> add_thread() REQUIRES(mutex_);
  void run() EXCLUDES(mutex_);

  // Constant after construction.
  const std::string name_;
  const size_t count_;

  Mutex mutex_;
  std::vector<std::thread> threads_ GUARDED_BY(mutex_);
  std::condition_variable_any changed_;
  std::condition_variable_any idle_;
  std::deque<std::function<void()>> waiting_ GUARDED_BY(mutex_);
  size_t running_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace wick::share
