#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>

#include "base/unix_socket.h"
#include "console/open.h"

namespace wick::console {

namespace {

// The host's end of a port on a Unix socket. Accepts one client at a time.
class UnixHost final : public Port::Host {
 public:
  UnixHost(Port& port, const std::string& path, Fd listener)
      : port_(port), listener_(std::move(listener)), file_(path) {}

  Result<void> start(EventLoop& loop) {
    // The watch is edge-triggered, so that the loop does not spin when accept4() fails with EMFILE.
    watch_ = TRY(loop.watch(listener_.get(), EPOLLIN | EPOLLET, [this](uint32_t) { accept(); }));
    return {};
  }

  void received(std::span<const std::byte> bytes) override { port_.push_input(bytes); }
  void output_ended(int) override {
    port_.detach();
    client_.close();
  }

 private:
  void accept() {
    for (;;) {
      Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!client.valid()) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno != EAGAIN)
          limit_.warn("{}: cannot accept a client: {}", port_.name(), std::strerror(errno));
        return;
      }
      if (client_.valid() && !client_left()) {
        refuse(client);
        continue;
      }
      Stream input(Fd(::fcntl(client.get(), F_DUPFD_CLOEXEC, 0)));
      Stream output(Fd(::fcntl(client.get(), F_DUPFD_CLOEXEC, 0)));
      client_ = std::move(client);
      port_.attach(std::move(input), std::move(output));
    }
  }

  // Asks the kernel whether the old client has left, because the event of a new client may be
  // dispatched before that of the old client's departure.
  bool client_left() const {
    pollfd client{.fd = client_.get(), .events = 0, .revents = 0};
    return ::poll(&client, 1, 0) > 0;
  }

  void refuse(const Fd& client) const {
    ucred owner{};
    socklen_t size = sizeof(owner);
    (void)::getsockopt(client_.get(), SOL_SOCKET, SO_PEERCRED, &owner, &size);
    const std::string why =
        fmt::format("{}process {} is attached to {}\r\n", kRefusal, owner.pid, port_.name());
    (void)::send(client.get(), why.data(), why.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  Port& port_;
  const Fd listener_;
  const UnixSocketFile file_;
  EventLoop::Watch watch_;
  Fd client_;
  RateLimit limit_;
};

}  // namespace

Result<std::unique_ptr<Port>> open_unix(EventLoop& loop, const std::string& path,
                                        const LogFile& log) {
  auto port = TRY(Port::create(loop, "unix:" + path, log));
  auto host = std::make_unique<UnixHost>(*port, path, TRY(listen_unix(path)));
  UnixHost& started = *host;
  port->set_host(std::move(host));
  TRY(started.start(loop));
  return port;
}

}  // namespace wick::console
