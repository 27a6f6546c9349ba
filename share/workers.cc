#include "share/workers.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

#include "base/event_loop.h"
#include "share/tree.h"

namespace wick::share {

Result<std::unique_ptr<Workers>> Workers::start(const std::string& name, size_t count) {
  std::unique_ptr<Workers> workers(new Workers);
  // Signals are handled by the thread of the caller, whose mask the new threads inherit.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Result<> started;
  for (size_t i = 0; i < count; ++i) {
    auto thread = start_thread(name, [raw = workers.get()] {
      Tree::prepare_thread();
      raw->run();
    });
    if (!thread) {
      started = failure(thread);
      break;
    }
    workers->threads_.push_back(*std::move(thread));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (workers->threads_.empty()) return failure(started);
  return workers;
}

Workers::~Workers() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::submit(std::function<void()> work) {
  {
    const MutexLock lock(mutex_);
    waiting_.push_back(std::move(work));
  }
  changed_.notify_one();
}

void Workers::wait_idle() {
  MutexLock lock(mutex_);
  while (!waiting_.empty() || running_ > 0) idle_.wait(lock);
}

void Workers::run() {
  MutexLock lock(mutex_);
  for (;;) {
    while (waiting_.empty() && !stopping_) changed_.wait(lock);
    if (waiting_.empty()) return;
    auto work = std::move(waiting_.front());
    waiting_.pop_front();
    ++running_;
    lock.unlock();
    work();
    work = nullptr;  // what it holds is released before the wait for it ends
    lock.lock();
    --running_;
    if (waiting_.empty() && running_ == 0) idle_.notify_all();
  }
}

}  // namespace wick::share
