#include "base/async_socket.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>
#include <vector>

namespace wick {

Result<std::unique_ptr<AsyncSocket>> AsyncSocket::create(EventLoop& loop, Fd socket) {
  std::unique_ptr<AsyncSocket> made(new AsyncSocket(loop, std::move(socket)));
  AsyncSocket& self = *made;
  // Edge-triggered, so that the loop does not spin on EPOLLHUP, which epoll cannot mask, while
  // nobody reads. A read or write waits for an event only after EAGAIN, so it misses none.
  made->watch_ = TRY(loop.watch(self.socket_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                [&self](uint32_t) { self.resume_both(); }));
  return made;
}

// The coroutine that is resumed last may destroy this object. The reader is resumed first; it
// cannot destroy this object while the writer waits, because no write may be pending at
// destruction.
void AsyncSocket::resume_both() {
  const auto reader = std::exchange(reader_, {});
  const auto writer = std::exchange(writer_, {});
  if (reader) reader.resume();
  if (writer) writer.resume();
}

Task<bool> AsyncSocket::read(std::span<std::byte> to) {
  while (reads_ && !to.empty()) {
    const ssize_t got = ::recv(socket_.get(), to.data(), to.size(), MSG_DONTWAIT);
    if (got > 0) {
      to = to.subspan(static_cast<size_t>(got));
    } else if (got < 0 && errno == EAGAIN) {
      co_await Event{reader_};
    } else if (got == 0 || errno != EINTR) {
      co_return false;
    }
  }
  co_return to.empty();
}

Task<bool> AsyncSocket::write(std::span<const iovec> from) {
  std::vector<iovec> left(from.begin(), from.end());
  size_t first = 0;
  for (;;) {
    while (first < left.size() && left[first].iov_len == 0) ++first;
    if (first == left.size()) co_return true;
    if (!writes_) co_return false;
    msghdr message{};
    message.msg_iov = &left[first];
    message.msg_iovlen = std::min<size_t>(left.size() - first, IOV_MAX);
    const ssize_t put = ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && errno == EAGAIN) {
      co_await Event{writer_};
    } else if (put < 0 && errno != EINTR) {
      co_return false;
    }
    for (size_t sent = put > 0 ? static_cast<size_t>(put) : 0; sent > 0;) {
      iovec& buffer = left[first];
      const size_t part = std::min(sent, buffer.iov_len);
      buffer.iov_base = static_cast<std::byte*>(buffer.iov_base) + part;
      buffer.iov_len -= part;
      sent -= part;
      if (buffer.iov_len == 0) ++first;
    }
  }
}

void AsyncSocket::stop_reading() {
  reads_ = false;
  resume_soon();
}

void AsyncSocket::shut_down() {
  reads_ = writes_ = false;
  (void)::shutdown(socket_.get(), SHUT_RDWR);
  resume_soon();
}

void AsyncSocket::resume_soon() {
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) resume_both();
  });
}

}  // namespace wick
