// One descriptor of the host that bytes go to or come from, used without ever
// waiting for it: a terminal, pipe, socket or file.
//
// Thread rule: the loop's thread only.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wick {

class Stream {
 public:
  Stream() = default;

  // A descriptor of ours; opened with O_NONBLOCK if it is one that can block.
  explicit Stream(Fd fd);

  // Stands for a descriptor that other processes share (stdin, stdout). Its
  // O_NONBLOCK is theirs, so terminals and pipes are opened anew; where that is
  // not allowed (another user's terminal) each call asks poll(2) first. `access`
  // is O_RDONLY or O_WRONLY. Not valid() if `fd` is not open.
  static Stream borrow(int fd, int access);

  // A new or emptied file; a device or a FIFO that someone reads also does.
  static Result<Stream> create_file(const std::string& path);

  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }

  // As read(2) and write(2), but a negative errno value for an error, -EAGAIN
  // for "not now", and -EPIPE without a signal.
  ssize_t read(std::span<std::byte> to) const;
  ssize_t write(std::span<const std::byte> from) const;

 private:
  Fd fd_;
  bool socket_ = false;
  bool may_block_ = false;
};

}  // namespace wick
