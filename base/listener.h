// Stream sockets of services: an address as a user writes it, and a socket that listens there.
//
// Thread rule: the loop's thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unix_socket.h"

namespace wick {

// unix:PATH or tcp:HOST:PORT. An IPv6 address is in brackets: tcp:[::1]:1234. Without HOST, as
// in tcp::1234, the address is 127.0.0.1.
struct StreamAddress {
  std::string path;  // of a Unix socket; empty: TCP
  std::string host;
  uint16_t port = 0;

  static Result<StreamAddress> parse(std::string_view text);
  std::string text() const;
};

// Connects to `address`, and waits until the connection is made.
Result<Fd> connect_stream(const StreamAddress& address);

class Listener {
 public:
  // Calls `accepted` on the loop with each client's non-blocking socket. With port 0 the kernel
  // chooses the port. A Unix socket has mode 0600, and its file is removed with the Listener.
  static Result<std::unique_ptr<Listener>> create(EventLoop& loop, const StreamAddress& address,
                                                  std::function<void(Fd client)> accepted);

  // The address, with the port that the kernel has chosen if it was 0.
  const StreamAddress& address() const { return address_; }

 private:
  Listener(const StreamAddress& address, Fd fd, std::function<void(Fd)> accepted)
      : address_(address), fd_(std::move(fd)), accepted_(std::move(accepted)) {}
  void accept();

  StreamAddress address_;
  const Fd fd_;
  std::optional<UnixSocketFile> file_;
  const std::function<void(Fd)> accepted_;
  EventLoop::Watch watch_;
  RateLimit warnings_;
};

}  // namespace wick
