// An epoll loop. All callbacks of watches and timers and all posted functions run on the
// one thread that calls run(), so the state they share needs no lock. Two exceptions: while no
// thread runs the loop, call() runs its function on the caller's thread; and functions that are
// still posted when the loop is destroyed run on the destroying thread.
//
// Thread rule: post(), call(), stop() and Timer::arm()/disarm() from any thread;
// the rest on the loop's thread, or before run().
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/fd.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/task.h"

namespace wick {

class EventLoop {
 public:
  using Callback = std::function<void(uint32_t events)>;

  // A watched descriptor. Destroying the Watch, even inside its own callback, ends the
  // watching. A Watch must not outlive the loop. The caller keeps the descriptor and
  // must not close it before the Watch is gone.
  class Watch {
   public:
    Watch() = default;
    Watch(Watch&& other) noexcept = default;
    Watch& operator=(Watch&& other) noexcept;
    ~Watch() { reset(); }

    void reset();
    // Changes the events to wait for. If `events` is 0, the callback still gets EPOLLERR and
    // EPOLLHUP, which epoll cannot mask (epoll_ctl(2)).
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

  // The registration of a function that runs at the end of each round. Destroying the RoundEnd ends
  // it. A RoundEnd must not outlive the loop.
  class RoundEnd {
   public:
    RoundEnd() = default;
    RoundEnd(RoundEnd&& other) noexcept = default;
    RoundEnd& operator=(RoundEnd&& other) noexcept;
    ~RoundEnd() { reset(); }
    void reset();

   private:
    friend class EventLoop;
    struct Entry {
      EventLoop& loop;
      std::function<bool()> function;
    };
    explicit RoundEnd(std::unique_ptr<Entry> entry) : entry_(std::move(entry)) {}
    std::unique_ptr<Entry> entry_;
  };

  // A one-shot timer.
  class Timer {
   public:
    // Calls back once, `delay` from now. Arming again replaces the deadline.
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

  // Watches `fd`. `events` are as in epoll_ctl(2): EPOLLIN, EPOLLOUT, EPOLLET, ... Fails with EPERM
  // for a regular file, which epoll does not support.
  Result<Watch> watch(int fd, uint32_t events, Callback callback);
  Result<Timer> timer(std::function<void()> callback);

  // Queues `function` to run on the loop's thread, in the order of posting. A function
  // posted after stop() may wait until the loop runs again or is destroyed.
  void post(std::function<void()> function);

  // Runs `function` on the loop's thread, waits for it and returns its result. On the loop's own
  // thread, or if no thread runs the loop, the caller runs the function itself. If no thread runs
  // the loop, concurrent callers run their functions one after the other.
  template <typename Function>
  std::invoke_result_t<Function&> call(Function function) {
    using Value = std::invoke_result_t<Function&>;
    if constexpr (std::is_void_v<Value>) {
      run_and_wait(function);
    } else {
      std::optional<Value> value;
      call([&] { value.emplace(function()); });
      return *std::move(value);
    }
  }

  // Registers a function that runs at the end of each round, before epoll_wait, until the RoundEnd
  // is destroyed. Must not be called from such a function. The functions run in the order of their
  // registration: one can submit the operations that the round has gathered, and a later one can
  // report those that have completed. A function that has left work for the next round returns
  // true, and epoll_wait does not sleep.
  [[nodiscard]] RoundEnd at_round_end(std::function<bool()> function);

  // Runs until stop(), which may be called before run(). Returns even if functions are posted
  // without end.
  void run();
  void stop();

 private:
  EventLoop(Fd epoll, EventFd wake);
  bool end_round();
  void run_posted();
  void forget_removed();
  void run_and_wait(const std::function<void()>& function);
  bool post_to_runner(std::function<void()> function);

  const Fd epoll_;
  const EventFd wake_;

  // Owned by the loop's thread.
  std::vector<RoundEnd::Entry*> round_ends_;
  std::vector<std::unique_ptr<Watch::Entry>> removed_;  // kept until no event refers to them

  // Serializes call() with the start and the end of run(), so that only one thread acts as the
  // loop. Locked before mutex_.
  std::recursive_mutex call_mutex_;

  Mutex mutex_;
  std::vector<std::function<void()>> posted_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread::id runner_ GUARDED_BY(mutex_);  // the default id if no thread runs the loop
};

// A loop on its own thread, which ends with this object.
class LoopThread {
 public:
  static Result<std::unique_ptr<LoopThread>> start(const std::string& name);
  ~LoopThread();

  EventLoop& loop() { return *loop_; }
  // Stops the loop and joins the thread. May be called again.
  void stop();

 private:
  explicit LoopThread(std::unique_ptr<EventLoop> loop) : loop_(std::move(loop)) {}
  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

// Runs `task` on the thread of `loop`, which must not be the calling thread, and waits for
// its result.
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

// Starts a thread; top and gdb show the first 15 characters of its name. Fails if the host
// allows no more threads (a cgroup's pids.max).
Result<std::thread> start_thread(const std::string& name, std::function<void()> body);

}  // namespace wick
