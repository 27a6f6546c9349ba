#include "image/workers.h"

#include <algorithm>

namespace wick::image {

Result<std::unique_ptr<Workers>> Workers::start(EventLoop& loop) {
  std::unique_ptr<Workers> self(new Workers(loop));
  const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
  for (unsigned i = 0; i < count; ++i)
    self->threads_.push_back(
        TRY(start_thread(fmt::format("work-{}", i), [raw = self.get()] { raw->work(); })));
  return self;
}

Workers::~Workers() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::queue(Job& job) {
  {
    const MutexLock lock(mutex_);
    jobs_.push_back(&job);
  }
  changed_.notify_one();
}

void Workers::work() {
  for (;;) {
    MutexLock lock(mutex_);
    while (!stopping_ && jobs_.empty()) changed_.wait(lock);
    if (jobs_.empty()) return;
    Job& job = *jobs_.front();
    jobs_.pop_front();
    lock.unlock();
    job.work_();
    loop_.post([handle = job.awaiting_] { handle.resume(); });
  }
}

}  // namespace wick::image
