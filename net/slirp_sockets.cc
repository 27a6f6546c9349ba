#include "net/slirp_sockets.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <utility>

#include "net/slirp.h"
#include "net/user_filter.h"

namespace wick::net {

namespace {

// Converts events of epoll, and also of poll(2), which has the same bits. libslirp reads urgent
// data like all other data (SO_OOBINLINE), so EPOLLPRI is not needed.
int to_slirp(uint32_t events) {
  int flags = 0;
  if ((events & EPOLLIN) != 0) flags |= SLIRP_POLL_IN;
  if ((events & EPOLLOUT) != 0) flags |= SLIRP_POLL_OUT;
  if ((events & EPOLLERR) != 0) flags |= SLIRP_POLL_ERR;
  if ((events & EPOLLHUP) != 0) flags |= SLIRP_POLL_HUP;
  return flags;
}

uint32_t to_epoll(int flags) {
  uint32_t events = 0;  // EPOLLERR and EPOLLHUP are always reported
  if ((flags & SLIRP_POLL_IN) != 0) events |= EPOLLIN;
  if ((flags & SLIRP_POLL_OUT) != 0) events |= EPOLLOUT;
  return events;
}

// Returns the current events of a datagram socket. libslirp 4.7 may crash if a socket that is
// reported as ready has no datagram. That can happen: an event may be older than the last round, or
// the datagram may have a wrong checksum, which only recv(2) detects.
int datagrams_now(int fd) {
  pollfd now{.fd = fd, .events = POLLIN, .revents = 0};
  if (::poll(&now, 1, 0) <= 0) return 0;
  const int ready = to_slirp(static_cast<uint32_t>(now.revents));
  char first = 0;
  return ready != SLIRP_POLL_IN || ::recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ? ready : 0;
}

}  // namespace

// Makes a socket of libslirp non-blocking, because libslirp itself does not do so for datagram
// sockets.
SlirpSockets::Socket SlirpSockets::adopt(int fd) {
  (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  const auto option = [fd](int name) {
    int value = 0;
    socklen_t size = sizeof(value);
    (void)::getsockopt(fd, SOL_SOCKET, name, &value, &size);
    return value;
  };
  Socket socket;
  socket.datagrams = option(SO_TYPE) != SOCK_STREAM;
  socket.listens = option(SO_ACCEPTCONN) != 0;
  return socket;
}

void SlirpSockets::request_events(int fd, int events) {
  auto place = sockets_.find(fd);
  // libslirp does not call add() for the sockets of forwards.
  if (place == sockets_.end()) place = sockets_.emplace(fd, adopt(fd)).first;
  Socket& socket = place->second;
  socket.wanted = events;
  if ((events & SLIRP_POLL_IN) != 0) socket.was_read = true;
}

void SlirpSockets::clear_requests() {
  for (auto& [fd, socket] : sockets_) socket.wanted = socket.ready = 0;
}

int SlirpSockets::take_events(int fd) {
  const auto place = sockets_.find(fd);
  if (place == sockets_.end()) return 0;
  Socket& socket = place->second;
  int ready = std::exchange(socket.ready, 0);
  if (ready != 0 && socket.datagrams) ready = datagrams_now(fd);
  if ((socket.wanted & SLIRP_POLL_IN) != 0 || !socket.was_read) return ready;
  // The socket waits only to send, perhaps because libslirp has no room to read. If an error were
  // reported, libslirp would read, and an assertion in soread would fail. So only SLIRP_POLL_OUT is
  // reported; sending then fails with the error.
  return ready != 0 ? SLIRP_POLL_OUT : 0;
}

void SlirpSockets::watch(EventLoop& loop, bool paused) {
  const bool full = sockets_.size() >= UserFilter::kMaxSockets;
  for (auto& [number, socket] : sockets_) {
    // Removes the watch, because EPOLLHUP cannot be masked and would come again and again.
    if (socket.wanted == 0 || paused || (full && socket.listens)) {
      socket.watch.reset();
      continue;
    }
    const uint32_t events = to_epoll(socket.wanted);
    if (socket.watch.active()) {
      socket.watch.set_events(events);
      continue;
    }
    auto watch = loop.watch(number, events, [this, fd = number](uint32_t seen) {
      const auto place = sockets_.find(fd);
      if (place == sockets_.end()) return;
      place->second.ready |= to_slirp(seen);
      on_ready_();
    });
    if (watch)
      socket.watch = *std::move(watch);
    else
      complaints_.warn("{}: {}", name_, watch.error().message());
  }
}

void SlirpSockets::detach() {
  for (auto& [fd, socket] : sockets_) {
    socket.watch.reset();
    socket.ready = 0;
  }
}

}  // namespace wick::net
