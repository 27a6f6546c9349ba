// A client of a service: bytes come in as they arrive, and go out without blocking. What a
// client does not read waits in a bounded queue; a client that lets it overflow is disconnected.
//
// Thread rule: the loop's thread only.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/stream.h"

namespace wick {

class Connection {
 public:
  static constexpr size_t kMaxWaitingBytes = 8 << 20;

  struct Events {
    std::function<void(std::string_view bytes)> received;
    // The client has disconnected, or was disconnected for not reading. No other call follows. It
    // may destroy the Connection.
    std::function<void()> closed;
  };

  // `input` and `output` may be the same socket: pass an invalid `output` then.
  static Result<std::unique_ptr<Connection>> create(EventLoop& loop, Stream input, Stream output,
                                                    Events events);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Sends at once what the client takes, and the rest later. Does nothing after the end.
  void send(std::string_view bytes);
  // The bytes that the client has not taken yet.
  size_t waiting_bytes() const { return waiting_.size(); }
  // Stops or continues reading, so that a client that floods a service waits.
  void hold_input(bool held);
  // Waits at most `timeout` until the client has taken everything. For what is sent before wick
  // ends.
  void flush(std::chrono::milliseconds timeout);
  // Disconnects once the client has taken what is waiting. `closed` is called.
  void close_after_output();

 private:
  Connection(EventLoop& loop, Stream input, Stream output, Events events);
  const Stream& out() const { return output_.valid() ? output_ : input_; }
  void on_event(uint32_t events);
  void read();
  void read_rest();
  void write();
  void update_watches();
  // Calls `closed` from the loop, so that no caller of send() is destroyed under its feet.
  void fail();

  EventLoop& loop_;
  Stream input_;
  Stream output_;
  Events events_;
  EventLoop::Watch input_watch_;
  EventLoop::Watch output_watch_;  // only with two streams
  std::string waiting_;
  bool input_held_ = false;
  // Input is read without events: a file, or one that hung up while it was held, because epoll
  // cannot mask EPOLLHUP (epoll_ctl(2)).
  bool hung_up_ = false;
  bool closing_ = false;
  bool failed_ = false;
  // Expires with the Connection; for the call that fail() posts.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick
