#include "base/connection.h"

#include <poll.h>

#include <array>

namespace wick {

Result<std::unique_ptr<Connection>> Connection::create(EventLoop& loop, Stream input, Stream output,
                                                       Events events) {
  std::unique_ptr<Connection> made(
      new Connection(loop, std::move(input), std::move(output), std::move(events)));
  Connection& self = *made;
  // Files and /dev/null cannot be watched (EPERM): they never block.
  auto in = loop.watch(made->input_.fd(), EPOLLIN, [&self](uint32_t what) { self.on_event(what); });
  if (in) {
    made->input_watch_ = *std::move(in);
  } else if (in.error().code == EPERM) {
    made->hung_up_ = true;
    made->read_rest();
  } else {
    return failure(in);
  }
  if (made->output_.valid()) {
    auto out = loop.watch(made->output_.fd(), 0, [&self](uint32_t what) { self.on_event(what); });
    if (out)
      made->output_watch_ = *std::move(out);
    else if (out.error().code != EPERM)
      return failure(out);
  }
  return made;
}

Connection::Connection(EventLoop& loop, Stream input, Stream output, Events events)
    : loop_(loop),
      input_(std::move(input)),
      output_(std::move(output)),
      events_(std::move(events)) {}

void Connection::on_event(uint32_t what) {
  if (failed_) return;
  const std::weak_ptr<bool> alive = alive_;
  if ((what & EPOLLOUT) != 0) write();
  if (failed_) return;
  if ((input_held_ || (closing_ && output_.valid())) && (what & (EPOLLHUP | EPOLLERR)) != 0) {
    hung_up_ = true;
    input_watch_.reset();
  }
  if ((what & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read();
  if (!alive.expired() && !failed_) update_watches();
}

// Reads only once for each event, so that a client that floods the service does not keep the loop
// from its other work.
void Connection::read() {
  if (input_held_ || closing_) return;
  std::array<std::byte, 16384> buffer;
  const ssize_t got = input_.read(buffer);
  if (got == -EAGAIN || got == -EINTR) return;
  if (got == 0) return close_after_output();
  if (got < 0) return fail();
  events_.received({reinterpret_cast<const char*>(buffer.data()), static_cast<size_t>(got)});
}

void Connection::send(std::string_view bytes) {
  if (failed_ || closing_) return;
  if (waiting_.size() + bytes.size() > kMaxWaitingBytes) return fail();
  waiting_ += bytes;
  write();
  if (!failed_) update_watches();
}

void Connection::write() {
  size_t done = 0;
  while (done < waiting_.size()) {
    const ssize_t put = out().write(std::as_bytes(std::span(waiting_)).subspan(done));
    if (put == -EINTR) continue;
    if (put == -EAGAIN) break;
    if (put <= 0) return fail();
    done += static_cast<size_t>(put);
  }
  waiting_.erase(0, done);
  if (closing_ && waiting_.empty()) fail();
}

void Connection::update_watches() {
  const uint32_t in = input_held_ || closing_ ? 0 : uint32_t{EPOLLIN};
  const uint32_t wanted = waiting_.empty() ? 0 : uint32_t{EPOLLOUT};
  if (output_watch_.active()) output_watch_.set_events(wanted);
  if (!hung_up_) input_watch_.set_events(output_.valid() ? in : in | wanted);
}

void Connection::hold_input(bool held) {
  input_held_ = held;
  if (failed_) return;
  update_watches();
  if (!held && hung_up_) read_rest();
}

// Reads what the client sent before it disconnected: epoll reports no further event for it.
void Connection::read_rest() {
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired() || failed_ || closing_ || input_held_) return;
    read();
    if (!alive.expired() && !failed_ && !closing_ && !input_held_) read_rest();
  });
}

void Connection::flush(std::chrono::milliseconds timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  while (!failed_ && !waiting_.empty()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return;
    pollfd room{.fd = out().fd(), .events = POLLOUT, .revents = 0};
    (void)::poll(&room, 1, static_cast<int>(left.count()));
    write();
  }
}

void Connection::close_after_output() {
  closing_ = true;
  // After a hang-up of both directions nobody takes the rest.
  if (waiting_.empty() || (hung_up_ && !output_.valid()))
    fail();
  else
    update_watches();
}

void Connection::fail() {
  if (failed_) return;
  failed_ = true;
  waiting_.clear();
  input_watch_.reset();
  output_watch_.reset();
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    const auto closed = std::move(events_.closed);  // the callback may destroy this object
    if (closed) closed();
  });
}

}  // namespace wick
