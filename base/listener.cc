#include "base/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <charconv>
#include <cstring>

namespace wick {

namespace {

using AddressList =
    std::unique_ptr<addrinfo, decltype([](addrinfo* list) { ::freeaddrinfo(list); })>;

Result<AddressList> resolve(const StreamAddress& address, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int error =
          ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found))
    return fail("{}: cannot find the host: {}", address.text(), ::gai_strerror(error));
  return AddressList(found);
}

Result<Fd> listen_tcp(const StreamAddress& address) {
  const auto list = TRY(resolve(address, AI_PASSIVE));
  Fd socket(::socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return fail_errno(errno, "{}: cannot make a socket", address.text());
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(socket.get(), list->ai_addr, list->ai_addrlen) != 0 ||
      ::listen(socket.get(), 8) != 0) {
    const int error = errno;
    return with_hint(fail_errno(error, "{}: cannot listen", address.text()),
                     error == EADDRINUSE ? "another process uses this port; choose another"
                                         : "check the address and the port");
  }
  return socket;
}

// Returns the port that bind() has chosen; 0 on an error.
uint16_t port_of(const Fd& socket) {
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<sockaddr_in&>(bound).sin_port);
}

// Turns off Nagle's algorithm: a request is one small write, which must not wait for more data.
void send_at_once(const Fd& socket) {
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

}  // namespace

Result<StreamAddress> StreamAddress::parse(std::string_view text) {
  StreamAddress address;
  if (text.starts_with("unix:")) {
    address.path = text.substr(5);
    if (address.path.empty()) return fail("{}: the socket's path is missing", text);
    return address;
  }
  const size_t colon = text.rfind(':');
  if (!text.starts_with("tcp:") || colon < 4)
    return fail("\"{}\" is neither unix:PATH nor tcp:HOST:PORT", text);
  std::string_view host = text.substr(4, colon - 4);
  const std::string_view port = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  address.host = host.empty() ? "127.0.0.1" : host;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc() || end != port.data() + port.size() || port.empty())
    return fail("\"{}\": \"{}\" is not a port, 0 to 65535", text, port);
  return address;
}

std::string StreamAddress::text() const {
  if (!path.empty()) return "unix:" + path;
  const bool brackets = host.find(':') != std::string::npos;
  return brackets ? fmt::format("tcp:[{}]:{}", host, port) : fmt::format("tcp:{}:{}", host, port);
}

Result<Fd> connect_stream(const StreamAddress& address) {
  if (!address.path.empty()) return connect_unix(address.path);
  const auto list = TRY(resolve(address, 0));
  int error = 0;
  for (const addrinfo* each = list.get(); each != nullptr; each = each->ai_next) {
    Fd socket(::socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (socket.valid() && ::connect(socket.get(), each->ai_addr, each->ai_addrlen) == 0) {
      send_at_once(socket);
      return socket;
    }
    error = errno;
  }
  return with_hint(fail_errno(error, "{}: cannot connect", address.text()),
                   "check that a machine listens there");
}

Result<std::unique_ptr<Listener>> Listener::create(EventLoop& loop, const StreamAddress& address,
                                                   std::function<void(Fd)> accepted) {
  Fd socket = address.path.empty() ? TRY(listen_tcp(address)) : TRY(listen_unix(address.path));
  std::unique_ptr<Listener> made(new Listener(address, std::move(socket), std::move(accepted)));
  if (address.path.empty())
    made->address_.port = port_of(made->fd_);
  else
    made->file_.emplace(address.path);
  // Edge-triggered, so that the loop does not spin when accept4() fails with EMFILE.
  Listener& self = *made;
  made->watch_ =
      TRY(loop.watch(made->fd_.get(), EPOLLIN | EPOLLET, [&self](uint32_t) { self.accept(); }));
  return made;
}

void Listener::accept() {
  for (;;) {
    Fd client(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!client.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN)
        warnings_.warn("{}: cannot accept a client: {}", address_.text(), std::strerror(errno));
      return;
    }
    if (address_.path.empty()) send_at_once(client);
    accepted_(std::move(client));
  }
}

}  // namespace wick
