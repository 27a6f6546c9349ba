// The signals that a user or a supervisor sends to a run. INT, TERM, QUIT and HUP
// end it, in each of its phases: they are taken on a thread of their own, so that
// it does not matter what the main thread does or waits for.
//
// Thread rule: made, used and destroyed on the main thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"

namespace wick::cli {

class Signals {
 public:
  // Blocks them all for this thread and those that it starts later, so it must
  // come before the process has a second thread. Ignores SIGPIPE (a client that
  // goes away is an error of write()) and SIGTTOU (a machine does not stop for
  // want of a terminal). SIGHUP stays ignored where it is, as under nohup.
  static Result<std::unique_ptr<Signals>> take();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // The first of the ending signals calls `end` with its number, on the signals'
  // thread. With an empty function, as at first, it ends the process at once with
  // status 128+N.
  //
  // So does the second signal in any case. But one that follows the first within
  // half a second is taken for the same: timeout(1) sends two of a kind, and so do
  // a terminal that closes and its shell.
  void on_end(std::function<void(int number)> end);

  // From which SIGPWR and SIGUSR1 are read (signalfd(2)).
  const Fd& requests() const { return requests_; }

 private:
  Signals() = default;
  void received();
  [[noreturn]] void end_process() const;

  Fd endings_;
  Fd requests_;
  std::unique_ptr<LoopThread> thread_;

  // Owned by the thread.
  EventLoop::Watch watch_;
  std::chrono::steady_clock::time_point first_at_;

  std::mutex mutex_;
  // Guarded by mutex_.
  std::function<void(int)> end_;
  int number_ = 0;  // of the last one, 0: none came
};

}  // namespace wick::cli
