// An epoll loop: everything that is watched, timed or posted runs on the one
// thread that calls run(), so what belongs to a loop needs no lock.
//
// Thread rule: post(), stop() and Timer::arm()/disarm() from any thread; the
// rest on the loop's thread, or before run().
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/task.h"

namespace wick {

class EventLoop {
 public:
  using Callback = std::function<void(uint32_t events)>;

  // A watched descriptor; stops watching when destroyed, also from inside its
  // own callback. It must not outlive the loop. The descriptor stays the
  // caller's and must stay open as long as the Watch.
  class Watch {
   public:
    Watch() = default;
    Watch(Watch&& other) noexcept = default;
    Watch& operator=(Watch&& other) noexcept;
    ~Watch() { reset(); }

    void reset();
    // Changes what is waited for. With 0 it calls back only for EPOLLERR and
    // EPOLLHUP, which cannot be masked (epoll_ctl(2)).
    void set_events(uint32_t events);
    bool active() const { return entry_ != nullptr; }

   private:
    friend class EventLoop;
    struct Entry {
      EventLoop& loop;
      int fd;
      uint32_t events;
      bool alive;
      Callback callback;
    };
    explicit Watch(std::unique_ptr<Entry> entry) : entry_(std::move(entry)) {}
    std::unique_ptr<Entry> entry_;
  };

  // A one-shot timer.
  class Timer {
   public:
    // Calls back once, `delay` from now; arming again moves the deadline.
    void arm(std::chrono::microseconds delay) const;
    void disarm() const;

   private:
    friend class EventLoop;
    Fd fd_;
    Watch watch_;
  };

  static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // `events` as in epoll_ctl(2): EPOLLIN, EPOLLOUT, EPOLLET, ... Fails with
  // EPERM for regular files, which are always ready.
  Result<Watch> watch(int fd, uint32_t events, Callback callback);
  Result<Timer> timer(std::function<void()> callback);

  // Runs `function` on the loop's thread, soon; in the order of posting. What
  // is posted after stop() may wait until the loop runs again or is destroyed.
  void post(std::function<void()> function);

  // Posts, and waits until it ran. On the loop's own thread, or when no thread
  // runs the loop, it runs at once: in the latter case one caller at a time.
  void post_and_wait(std::function<void()> function);

  // `function` runs once in each round, before the loop waits: the place to
  // submit what the round gathered. For as long as the loop lives.
  void before_wait(std::function<void()> function) { before_wait_.push_back(std::move(function)); }

  // Returns after stop(), which may come first; also if posting never ends.
  void run();
  void stop();

 private:
  EventLoop(Fd epoll, EventFd wake);
  void run_posted();
  void forget_removed();

  const Fd epoll_;
  const EventFd wake_;

  // Owned by the loop's thread.
  std::vector<std::function<void()>> before_wait_;
  std::vector<std::unique_ptr<Watch::Entry>> removed_;  // kept until no event can name them

  // Held by whoever stands in for a loop that nobody runs; taken before mutex_.
  std::recursive_mutex stand_in_;

  std::mutex mutex_;
  // Guarded by mutex_.
  std::vector<std::function<void()>> posted_;
  bool stopping_ = false;
  std::thread::id runner_;  // nobody's when no thread runs the loop
};

// A loop with a thread of its own, which ends with this object.
class LoopThread {
 public:
  static Result<std::unique_ptr<LoopThread>> start(const std::string& name);
  ~LoopThread();

  EventLoop& loop() { return *loop_; }
  // Stops the loop and joins the thread; harmless when done before.
  void stop();

 private:
  explicit LoopThread(std::unique_ptr<EventLoop> loop) : loop_(std::move(loop)) {}
  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

// Runs `task` on the thread of `loop`, which is not this one, and waits for its
// result.
template <typename T>
T run_on(EventLoop& loop, Task<T> task) {
  std::optional<T> result;
  std::binary_semaphore done(0);
  loop.post([&] {
    spawn([](Task<T>& what, std::optional<T>& out, std::binary_semaphore& finished) -> Task<void> {
      out.emplace(co_await std::move(what));
      finished.release();
    }(task, result, done));
  });
  done.acquire();
  return *std::move(result);
}

// A thread with a name as shown by top and gdb, at most 15 characters of it.
// Fails where the host has no more threads to give (a cgroup's pids.max).
Result<std::thread> start_thread(const std::string& name, std::function<void()> body);

}  // namespace wick
