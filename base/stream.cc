#include "base/stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace wick {

namespace {

// A terminal or pipe that poll(2) reports as writable nearly always accepts a write of this many
// bytes without blocking.
constexpr size_t kSafeBytes = 256;

bool ready(int fd, short events) {
  pollfd wanted{.fd = fd, .events = events, .revents = 0};
  return ::poll(&wanted, 1, 0) > 0;
}

bool is_socket(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

}  // namespace

Stream::Stream(Fd fd) : fd_(std::move(fd)), socket_(is_socket(fd_.get())) {
  // A reader that goes away must cause EPIPE, not end wick.
  std::signal(SIGPIPE, SIG_IGN);
}

Stream Stream::borrow(int fd, int access) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return {};
  const bool can_block = S_ISCHR(status.st_mode) || S_ISFIFO(status.st_mode);
  // The /dev/null that stands for a closed standard output must not take what is written. A
  // terminal is often open for reading only, as standard input.
  const int mode = ::fcntl(fd, F_GETFL) & O_ACCMODE;
  if (can_block && (mode == O_RDWR || mode == access || ::isatty(fd) == 1)) {
    const std::string path = fmt::format("/proc/self/fd/{}", fd);
    Stream anew(Fd(::open(path.c_str(), access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)));
    if (anew.valid()) return anew;
  }
  // The duplicate shares the file offset, so the shell's next command continues after wick's
  // output.
  Stream same(Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)));
  same.may_block_ = can_block;
  return same;
}

Result<Stream> Stream::create_file(const std::string& path) {
  Fd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666));
  if (fd.valid()) return Stream(std::move(fd));
  const int error = errno;
  const char* hint = "check the path and its permissions";
  if (error == ENXIO) hint = "start the reader of this FIFO first";
  return with_hint(fail_errno(error, "{}: cannot open for writing", path), hint);
}

ssize_t Stream::read(std::span<std::byte> to) const {
  if (may_block_ && !ready(fd(), POLLIN)) return -EAGAIN;
  ssize_t got = -1;
  do {
    got = socket_ ? ::recv(fd(), to.data(), to.size(), MSG_DONTWAIT)
                  : ::read(fd(), to.data(), to.size());
  } while (got < 0 && errno == EINTR);
  return got < 0 ? -errno : got;
}

ssize_t Stream::write(std::span<const std::byte> from) const {
  if (may_block_ && !ready(fd(), POLLOUT)) return -EAGAIN;
  const size_t size = may_block_ ? std::min(from.size(), kSafeBytes) : from.size();
  ssize_t put = -1;
  do {
    put = socket_ ? ::send(fd(), from.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL)
                  : ::write(fd(), from.data(), size);
  } while (put < 0 && errno == EINTR);
  return put < 0 ? -errno : put;
}

}  // namespace wick
