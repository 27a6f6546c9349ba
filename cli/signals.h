// The signals that a user or a supervisor sends to a run. INT, TERM, QUIT and HUP end the run at
// any time: a separate thread receives them, so it does not matter what the main thread does or
// waits for.
//
// Thread rule: created, used and destroyed on the main thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/mutex.h"
#include "base/result.h"

namespace wick::cli {

class Signals {
 public:
  // Blocks the signals for this thread and those that it starts later, so it must be called
  // before the process has a second thread. Ignores SIGPIPE (write() reports that a client has
  // gone) and SIGTTOU (a machine in the background must not stop). If SIGHUP is ignored, as
  // under nohup, it stays ignored.
  static Result<std::unique_ptr<Signals>> take();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // Sets the function that is called, on the signal thread, for the first signal N that ends a run.
  // Without a function, as initially, the signal ends the process at once with status 128+N.
  //
  // A second signal always ends the process at once, unless it comes within half a second of the
  // first. Then both count as one signal, because timeout(1) sends a signal twice, and a closing
  // terminal and its shell each send one.
  void on_end(std::function<void(int number)> end);

  // Sets the function that is called, on the signal thread and with the exit status, before a
  // signal ends the process at once.
  void on_exit(std::function<void(int status)> exiting);

  // Returns a signalfd(2) for SIGPWR and SIGUSR1.
  const Fd& requests() const { return requests_; }

 private:
  Signals() = default;
  void received();
  [[noreturn]] void end_process() const REQUIRES(mutex_);

  Fd endings_;
  Fd requests_;
  std::unique_ptr<LoopThread> thread_;

  // Used only on `thread_`.
  EventLoop::Watch watch_;
  std::chrono::steady_clock::time_point first_at_;

  Mutex mutex_;
  std::function<void(int)> end_ GUARDED_BY(mutex_);
  std::function<void(int)> exiting_ GUARDED_BY(mutex_);
  int number_ GUARDED_BY(mutex_) = 0;  // the last signal; 0: none yet
};

}  // namespace wick::cli
