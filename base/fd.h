// Owners of file descriptors.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "base/result.h"

namespace wick {

// Owns one descriptor, or none (-1). Errors of close(2) are ignored: a caller that needs its
// data on disk calls fsync first.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { close(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

// An eventfd(2).
class EventFd {
 public:
  static Result<EventFd> create() {
    Fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd.valid()) return fail_errno(errno, "eventfd: cannot create");
    return EventFd(std::move(fd));
  }

  int fd() const { return fd_.get(); }

  // Wakes the reader. Any thread may call it. EAGAIN is not an error: a full counter wakes the
  // reader, too.
  void signal() const {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof(one));
  }

  // Resets the count to zero. Returns false if it was zero already.
  bool consume() const {
    uint64_t count = 0;
    return ::read(fd_.get(), &count, sizeof(count)) == sizeof(count);
  }

 private:
  explicit EventFd(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace wick
