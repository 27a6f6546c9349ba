// Test fixture: a user network, and sockets of the host that its guest talks to.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <csignal>

#include "base/fd.h"
#include "tests/net/user_guest.h"

namespace wick::net {

using fakes::Bytes;

const UserNetwork kPlain = {.name = "net0", .host_name = "machine", .forwards = {}};

// A socket of the host, bound to a free port of the loopback; all calls have a timeout.
class HostSocket {
 public:
  explicit HostSocket(int type) : HostSocket(Fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0))) {
    const sockaddr_in any{.sin_family = AF_INET,
                          .sin_port = 0,
                          .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                          .sin_zero = {}};
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(::listen(fd_.get(), 64), 0);
    }
  }
  uint16_t port() const {
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    EXPECT_EQ(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(address.sin_port);
  }
  HostSocket accept() const { return HostSocket(Fd(::accept(fd_.get(), nullptr, nullptr))); }
  static HostSocket connected_to(uint16_t port) {
    HostSocket socket(Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
    const sockaddr_in to{.sin_family = AF_INET,
                         .sin_port = htons(port),
                         .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                         .sin_zero = {}};
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
    return socket;
  }
  Bytes read(size_t size) const {
    Bytes data(size);
    size_t done = 0;
    while (done < size) {
      const ssize_t part = ::recv(fd_.get(), data.data() + done, size - done, 0);
      if (part <= 0) break;
      done += static_cast<size_t>(part);
    }
    data.resize(done);
    return data;
  }
  void write(const Bytes& data) const {
    EXPECT_EQ(::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(data.size()));
  }
  int get() const { return fd_.get(); }
  void close() { fd_.close(); }

 private:
  explicit HostSocket(Fd fd) : fd_(std::move(fd)) {
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  }
  Fd fd_;
};

inline uint16_t free_port(int type) { return HostSocket(type).port(); }

class UserTest : public testing::Test {
 protected:
  UserTest() { std::signal(SIGPIPE, SIG_IGN); }  // as wick run does
};

}  // namespace wick::net
