#include "console/sink.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>

namespace wick::console {

void Sink::open(Stream stream) {
  stream_ = std::move(stream);
  position_ = std::max(position_, transcript_.oldest());
  error_ = 0;
}

Sink::State Sink::pump() {
  // PIPE_BUF: a pipe takes a write of this size as a whole or not at all.
  std::array<std::byte, 4096> chunk;
  // Stops at the present end, because bytes that are appended later cause another wake-up.
  const uint64_t end = transcript_.end();
  while (position_ < end) {
    const Transcript::Extent extent = transcript_.read(position_, chunk);
    dropped_bytes_ += extent.position - position_;
    position_ = extent.position;
    const ssize_t written = stream_.write(std::span(chunk).first(extent.size_bytes));
    if (written == -EAGAIN || written == 0) return State::kBlocked;
    if (written < 0) {
      error_ = static_cast<int>(-written);
      return State::kBroken;
    }
    position_ += static_cast<uint64_t>(written);
  }
  return State::kCaughtUp;
}

Sink::State Sink::flush(std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    const State state = pump();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (state != State::kBlocked || left.count() <= 0) return state;
    pollfd writable{.fd = stream_.fd(), .events = POLLOUT, .revents = 0};
    (void)::poll(&writable, 1, static_cast<int>(left.count()));
  }
}

}  // namespace wick::console
