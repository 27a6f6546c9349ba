#include "base/event_loop.h"

#include <pthread.h>
#include <sys/timerfd.h>

#include <array>
#include <csignal>
#include <semaphore>
#include <system_error>
#include <utility>

namespace wick {

EventLoop::Watch& EventLoop::Watch::operator=(Watch&& other) noexcept {
  if (this != &other) {
    reset();
    entry_ = std::move(other.entry_);
  }
  return *this;
}

void EventLoop::Watch::reset() {
  if (entry_ == nullptr) return;
  (void)::epoll_ctl(entry_->loop.epoll_.get(), EPOLL_CTL_DEL, entry_->fd, nullptr);
  entry_->alive = false;
  // The entry must live on for now: its own callback may be running, and a later event of
  // this round may refer to it.
  EventLoop& loop = entry_->loop;
  loop.removed_.push_back(std::move(entry_));
}

void EventLoop::Watch::set_events(uint32_t events) {
  if (entry_->events == events) return;
  entry_->events = events;
  epoll_event event{.events = events, .data = {.ptr = entry_.get()}};
  (void)::epoll_ctl(entry_->loop.epoll_.get(), EPOLL_CTL_MOD, entry_->fd, &event);
}

EventLoop::RoundEnd& EventLoop::RoundEnd::operator=(RoundEnd&& other) noexcept {
  if (this != &other) {
    reset();
    entry_ = std::move(other.entry_);
  }
  return *this;
}

void EventLoop::RoundEnd::reset() {
  if (entry_ == nullptr) return;
  std::erase(entry_->loop.round_ends_, entry_.get());
  entry_.reset();
}

void EventLoop::Timer::arm(std::chrono::microseconds delay) const {
  // Zero would disarm the timer.
  const int64_t ns = std::max<int64_t>(1, std::chrono::nanoseconds(delay).count());
  const itimerspec spec{.it_interval = {},
                        .it_value = {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000}};
  (void)::timerfd_settime(fd_.get(), 0, &spec, nullptr);
}

void EventLoop::Timer::disarm() const {
  const itimerspec spec{};
  (void)::timerfd_settime(fd_.get(), 0, &spec, nullptr);
}

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return fail_errno(errno, "epoll: cannot create");
  EventFd wake = TRY(EventFd::create());
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.fd(), &event) != 0)
    return fail_errno(errno, "epoll: cannot watch an eventfd");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake)));
}

EventLoop::EventLoop(Fd epoll, EventFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}

EventLoop::~EventLoop() {
  run_posted();
  forget_removed();
}

Result<EventLoop::Watch> EventLoop::watch(int fd, uint32_t events, Callback callback) {
  std::unique_ptr<Watch::Entry> entry(
      new Watch::Entry{*this, fd, events, true, std::move(callback)});
  epoll_event event{.events = events, .data = {.ptr = entry.get()}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail_errno(errno, "epoll: cannot watch descriptor {}", fd);
  return Watch(std::move(entry));
}

Result<EventLoop::Timer> EventLoop::timer(std::function<void()> callback) {
  Timer timer;
  timer.fd_ = Fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.fd_.valid()) return fail_errno(errno, "timerfd: cannot create");
  timer.watch_ = TRY(watch(timer.fd_.get(), EPOLLIN,
                           [fd = timer.fd_.get(), callback = std::move(callback)](uint32_t) {
                             uint64_t expirations = 0;
                             // The read fails if the timer was disarmed meanwhile.
                             if (::read(fd, &expirations, sizeof(expirations)) > 0) callback();
                           }));
  return timer;
}

EventLoop::RoundEnd EventLoop::at_round_end(std::function<bool()> function) {
  std::unique_ptr<RoundEnd::Entry> entry(new RoundEnd::Entry{*this, std::move(function)});
  round_ends_.push_back(entry.get());
  return RoundEnd(std::move(entry));
}

void EventLoop::post(std::function<void()> function) {
  bool first = false;
  {
    const MutexLock lock(mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(function));
  }
  if (first) wake_.signal();
}

void EventLoop::run_and_wait(const std::function<void()>& function) {
  std::binary_semaphore ran(0);
  {
    const std::lock_guard alone(call_mutex_);
    const bool posted = post_to_runner([&] {
      function();
      ran.release();
    });
    if (!posted) {
      function();
      return;
    }
  }
  ran.acquire();
}

// Posts `function` if another thread runs the loop; returns false otherwise.
bool EventLoop::post_to_runner(std::function<void()> function) {
  const MutexLock lock(mutex_);
  if (runner_ == std::thread::id() || runner_ == std::this_thread::get_id()) return false;
  posted_.push_back(std::move(function));
  wake_.signal();
  return true;
}

void EventLoop::run_posted() {
  std::vector<std::function<void()>> batch;
  {
    const MutexLock lock(mutex_);
    batch.swap(posted_);
  }
  for (const auto& function : batch) function();
}

void EventLoop::forget_removed() {
  // Destroying a callback may destroy a Watch that it owns, which adds to removed_.
  while (!removed_.empty()) std::exchange(removed_, {});
}

// Returns true if work is left for the next round.
bool EventLoop::end_round() {
  bool work_left = false;
  for (RoundEnd::Entry* const entry : round_ends_) work_left |= entry->function();
  return work_left;
}

void EventLoop::run() {
  {
    const std::lock_guard alone(call_mutex_);
    const MutexLock lock(mutex_);
    runner_ = std::this_thread::get_id();
  }
  for (;;) {
    const int timeout_ms = end_round() ? 0 : -1;
    std::array<epoll_event, 32> events;
    const int count =
        ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      if (event.data.ptr == nullptr) {
        wake_.consume();
        run_posted();
        continue;
      }
      auto* entry = static_cast<Watch::Entry*>(event.data.ptr);
      if (entry->alive) entry->callback(event.events);
    }
    forget_removed();
    {
      const MutexLock lock(mutex_);
      if (!stopping_) continue;
    }
    // Functions posted before stop() still run, and so do the functions that callers of call() wait
    // for. Once runner_ is reset, call() runs its function itself.
    const std::lock_guard alone(call_mutex_);
    {
      const MutexLock lock(mutex_);
      stopping_ = false;
      runner_ = {};
    }
    run_posted();
    forget_removed();
    return;
  }
}

void EventLoop::stop() {
  const MutexLock lock(mutex_);
  stopping_ = true;
  wake_.signal();
}

Result<std::unique_ptr<LoopThread>> LoopThread::start(const std::string& name) {
  auto self = std::unique_ptr<LoopThread>(new LoopThread(TRY(EventLoop::create())));
  // No signal may be delivered to a loop's thread; the new thread inherits this mask.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto thread = start_thread(name, [&loop = *self->loop_] { loop.run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  self->thread_ = TRY(std::move(thread));
  // Wait until the thread is in run(), so that call() does not run its function on the
  // caller's thread.
  std::binary_semaphore running(0);
  self->loop_->post([&] { running.release(); });
  running.acquire();
  return self;
}

LoopThread::~LoopThread() { stop(); }

void LoopThread::stop() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

Result<std::thread> start_thread(const std::string& name, std::function<void()> body) {
  // std::thread reports failure only by an exception.
  try {
    return std::thread([name, body = std::move(body)] {
      pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
      body();
    });
  } catch (const std::system_error& error) {
    return fail_errno(error.code().value(), "{}: cannot start a thread", name);
  }
}

}  // namespace wick
