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
    // Called when the client has disconnected, or was disconnected because it did not read. No
    // other callback follows, and this one may destroy the Connection.
    std::function<void()> closed;
  };

  // If input and output use the same socket, `output` must be invalid.
  static Result<std::unique_ptr<Connection>> create(EventLoop& loop, Stream input, Stream output,
                                                    Events events);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Sends at once what the client accepts, and the rest later. Does nothing once the connection is
  // closing.
  void send(std::string_view bytes);
  // Returns the number of bytes that the client has not taken yet.
  size_t waiting_bytes() const { return waiting_.size(); }
  // Stops reading (true) or continues it (false), so that a client that floods a service waits.
  void hold_input(bool held);
  // Waits until the client has taken everything, but at most `timeout`. Meant for the last output
  // before wick ends.
  void flush(std::chrono::milliseconds timeout);
  // Disconnects as soon as the client has taken all that was sent. Then calls `closed`.
  void close_after_output();

 private:
  Connection(EventLoop& loop, Stream input, Stream output, Events events);
  const Stream& out() const { return output_.valid() ? output_ : input_; }
  void on_event(uint32_t events);
  void read();
  void read_rest();
  void write();
  void update_watches();
  // Ends the connection. Calls `closed` later, from the loop: it may destroy the caller of send().
  void fail();

  EventLoop& loop_;
  Stream input_;
  Stream output_;
  Events events_;
  EventLoop::Watch input_watch_;
  EventLoop::Watch output_watch_;  // active only if output_ is a stream of its own
  std::string waiting_;
  bool input_held_ = false;
  // True: input is read without waiting for events. This is so for a file, and after the client
  // hung up while wick did not read: the watch had to end then, because epoll cannot mask EPOLLHUP
  // (epoll_ctl(2)).
  bool hung_up_ = false;
  bool closing_ = false;
  bool failed_ = false;
  // Expires with the Connection: functions that were posted to the loop check it.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace wick
