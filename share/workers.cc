#include "share/workers.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

#include "base/event_loop.h"
#include "share/tree.h"

namespace wick::share {

Result<std::unique_ptr<Workers>> Workers::start(const std::string& name, size_t count) {
  std::unique_ptr<Workers> workers(new Workers(name, count));
  const MutexLock lock(workers->mutex_);
  TRY(workers->add_thread());
  return workers;
}

Result<void> Workers::add_thread() {
  // No signal may be delivered to a worker; the new thread inherits this mask.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto thread = start_thread(name_, [this] {
    Tree::prepare_thread();
    run();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  threads_.push_back(TRY(std::move(thread)));
  return {};
}

Workers::~Workers() {
  std::vector<std::thread> threads;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

void Workers::submit(std::function<void()> work) {
  {
    const MutexLock lock(mutex_);
    waiting_.push_back(std::move(work));
    // If the host allows no more threads, the existing ones do the work.
    if (running_ + waiting_.size() > threads_.size() && threads_.size() < count_)
      static_cast<void>(add_thread());
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
    work = nullptr;  // releases what it holds before wait_idle() returns
    lock.lock();
    --running_;
    if (waiting_.empty() && running_ == 0) idle_.notify_all();
  }
}

}  // namespace wick::share
