#include "console/unix_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/mutex.h"
#include "console/open.h"

namespace wick::console {

namespace {

int bind_to(const Fd& socket, const sockaddr_un& address) {
  return ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

int connect_to(const Fd& socket, const sockaddr_un& address) {
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

// Removes the socket of a process that died. Two processes that find the same stale
// socket could race, and one remove the new socket of the other. The second lstat()
// narrows that race to a few instructions.
Result<void> remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) return {};  // gone meanwhile
  if (!S_ISSOCK(found.st_mode))
    return with_hint(fail("unix:{}: the file exists and is not a socket", path),
                     "remove it or choose another path");

  // The probe is a datagram socket, so that the listener accepts no connection: a
  // stream socket would become its client and get the guest's output.
  const Fd probe(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return fail_errno(errno, "unix:{}: cannot make a socket", path);
  const int error = connect_to(probe, address) == 0 ? 0 : errno;
  if (error == 0 || error == EPROTOTYPE)
    return with_hint(fail("unix:{}: another process is using this socket", path),
                     "choose another path, or end that process");
  if (error == ENOENT) return {};
  if (error != ECONNREFUSED)
    return fail_errno(error, "unix:{}: cannot find out whether this socket is in use", path);

  struct stat now {};
  if (::lstat(path.c_str(), &now) == 0 && now.st_ino == found.st_ino &&
      now.st_dev == found.st_dev && ::unlink(path.c_str()) != 0)
    return fail_errno(errno, "unix:{}: cannot remove a stale socket", path);
  return {};
}

// Removes the file of a socket when destroyed, and in quick_exit(), which ends a
// process whose main thread cannot be joined.
class SocketFile {
 public:
  explicit SocketFile(std::string path) : path_(std::move(path)) {
    (void)::lstat(path_.c_str(), &file_);
    static const int at_quick_exit = std::at_quick_exit(remove_all);
    (void)at_quick_exit;
    const MutexLock lock(mutex);
    files.push_back(this);
  }
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;
  ~SocketFile() {
    const MutexLock lock(mutex);
    std::erase(files, this);
    remove();
  }

 private:
  static void remove_all() {
    const MutexLock lock(mutex);
    for (const SocketFile* const file : files) file->remove();
  }

  void remove() const {
    struct stat now {};
    const bool ours = ::lstat(path_.c_str(), &now) == 0 && now.st_ino == file_.st_ino &&
                      now.st_dev == file_.st_dev;
    if (ours) (void)::unlink(path_.c_str());
  }

  static inline Mutex mutex;
  static inline std::vector<const SocketFile*> files GUARDED_BY(mutex);

  const std::string path_;
  struct stat file_ {};
};

// Accepts one client at a time.
class UnixHost final : public Port::Host {
 public:
  UnixHost(Port& port, const std::string& path, Fd listener)
      : port_(port), listener_(std::move(listener)), file_(path) {}

  Result<void> start(EventLoop& loop) {
    // Edge-triggered, so that the loop does not spin when accept4() fails with EMFILE.
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

  // Asks the kernel, because the event of a new client may be dispatched before the
  // event that the old client left.
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
  const SocketFile file_;
  EventLoop::Watch watch_;
  Fd client_;
  RateLimit limit_;
};

}  // namespace

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty()) return fail("unix: the socket's path is empty");
  if (path.size() >= sizeof(address.sun_path))
    return with_hint(fail("unix:{}: the path has {} bytes; the path of a socket has at most {}",
                          path, path.size(), sizeof(address.sun_path) - 1),
                     "use a shorter or a relative path");
  std::ranges::copy(path, address.sun_path);
  return address;
}

Result<Fd> listen_unix(const std::string& path) {
  const sockaddr_un address = TRY(unix_address(path));
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener.valid()) return fail_errno(errno, "unix:{}: cannot make a socket", path);
  // bind() gives the socket's mode to the file, so the file is never accessible to others.
  (void)::fchmod(listener.get(), 0600);
  int error = bind_to(listener, address) == 0 ? 0 : errno;
  if (error == EADDRINUSE) {
    TRY(remove_stale(path, address));
    error = bind_to(listener, address) == 0 ? 0 : errno;
  }
  if (error != 0)
    return with_hint(fail_errno(error, "unix:{}: cannot make the socket", path),
                     "check the directory and its permissions");
  if (::listen(listener.get(), 8) != 0) return fail_errno(errno, "unix:{}: cannot listen", path);
  return listener;
}

Result<Fd> connect_unix(const std::string& path) {
  const sockaddr_un address = TRY(unix_address(path));
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return fail_errno(errno, "unix:{}: cannot make a socket", path);
  if (connect_to(socket, address) == 0) return socket;
  const int error = errno;
  const char* hint = "check the path and its permissions";
  if (error == ENOENT) hint = "is the machine running with --serial unix:PATH?";
  std::error_code absent;
  if (error == ECONNREFUSED)
    hint = std::filesystem::is_socket(path, absent) ? "no machine listens on this socket"
                                                    : "the file is not a socket";
  return with_hint(fail_errno(error, "unix:{}: cannot connect", path), hint);
}

Result<std::unique_ptr<Port>> open_unix(EventLoop& loop, const std::string& path,
                                        const std::string& log_path) {
  auto port = TRY(Port::create(loop, "unix:" + path, log_path));
  auto host = std::make_unique<UnixHost>(*port, path, TRY(listen_unix(path)));
  UnixHost& started = *host;
  port->set_host(std::move(host));
  TRY(started.start(loop));
  return port;
}

}  // namespace wick::console
