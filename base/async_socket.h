// A connected stream socket for coroutines: exact reads and complete writes that do not block the
// loop.
//
// Thread rule: the loop's thread only.
#pragma once

#include <sys/uio.h>

#include <coroutine>
#include <cstddef>
#include <memory>
#include <span>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"
#include "base/task.h"

namespace wick {

class AsyncSocket {
 public:
  // Takes ownership of `socket`. No read() or write() may be pending when it is destroyed.
  static Result<std::unique_ptr<AsyncSocket>> create(EventLoop& loop, Fd socket);
  AsyncSocket(const AsyncSocket&) = delete;
  AsyncSocket& operator=(const AsyncSocket&) = delete;

  // Fills the whole buffer. Returns false if the peer disconnects before the buffer is full, if the
  // socket fails, or after stop_reading() or shut_down(). At most one read may be pending.
  Task<bool> read(std::span<std::byte> to);
  // Writes all the buffers, which must stay valid until the Task is done. Returns false if the
  // socket fails, or after shut_down(); in these cases a part may have been sent. At most one write
  // may be pending.
  Task<bool> write(std::span<const iovec> from);

  // Makes the pending read and all later reads return false. Writes continue.
  void stop_reading();
  // Disconnects. Pending and later reads and writes return false.
  void shut_down();

 private:
  // Suspends a coroutine until the socket's next event.
  struct Event {
    std::coroutine_handle<>& waiting;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) const { waiting = handle; }
    void await_resume() const {}
  };

  AsyncSocket(EventLoop& loop, Fd socket) : loop_(loop), socket_(std::move(socket)) {}
  void resume_both();
  void resume_soon();

  EventLoop& loop_;
  const Fd socket_;
  EventLoop::Watch watch_;
  std::coroutine_handle<> reader_;
  std::coroutine_handle<> writer_;
  bool reads_ = true;
  bool writes_ = true;
  // Expires with the AsyncSocket: the function that resume_soon() posts checks it.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick
