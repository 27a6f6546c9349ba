// The sockets of libslirp, watched by an event loop.
//
// libslirp works in rounds: slirp_pollfds_fill() lists the sockets to poll, and
// slirp_pollfds_poll() handles the ready ones. This class stores the events that
// slirp_pollfds_fill() requested and the events that slirp_pollfds_poll() will get.
//
// Thread rule: the loop's thread, or any one thread before there is a loop.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <unordered_map>

#include "base/event_loop.h"
#include "base/log.h"

namespace wick::net {

class SlirpSockets {
 public:
  // `on_ready` is called on the loop when a watched socket is ready. `name` is used in messages
  // and must outlive this object.
  SlirpSockets(const std::string& name, std::function<void()> on_ready)
      : name_(name), on_ready_(std::move(on_ready)) {}

  // add() must be called when libslirp has created a socket, and remove() right before it closes
  // one.
  void add(int fd) { sockets_.insert_or_assign(fd, adopt(fd)); }
  void remove(int fd) { sockets_.erase(fd); }
  size_t size() const { return sockets_.size(); }

  // Returns the events (SLIRP_POLL_*) of a socket since the last call, for slirp_pollfds_poll().
  int take_events(int fd);
  // Functions for slirp_pollfds_fill(): clear_requests() must be called at its start, and then
  // request_events() for each socket that it lists.
  void clear_requests();
  void request_events(int fd, int events);
  // Watches the sockets for the requested events; with `paused`, watches none.
  void watch(EventLoop& loop, bool paused);
  // Ends all watching, before the loop is destroyed.
  void detach();

 private:
  struct Socket {
    EventLoop::Watch watch;
    int wanted = 0;  // the events (SLIRP_POLL_*) that the last slirp_pollfds_fill() requested
    int ready = 0;   // the events that slirp_pollfds_poll() will get
    bool datagrams = false;
    bool listens = false;
    bool was_read = false;
  };
  static Socket adopt(int fd);

  const std::string& name_;
  const std::function<void()> on_ready_;
  std::unordered_map<int, Socket> sockets_;
  RateLimit complaints_;
};

}  // namespace wick::net
