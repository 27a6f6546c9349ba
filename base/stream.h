// Non-blocking reads and writes of a host descriptor: a terminal, pipe, socket or file.
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

  // Takes ownership of a descriptor that wick opened itself. The caller has set O_NONBLOCK,
  // unless reads and writes on the descriptor never block.
  explicit Stream(Fd fd);

  // Uses a descriptor that other processes share (stdin, stdout). Setting O_NONBLOCK would affect
  // these processes, so terminals and pipes are opened again through /proc. Where that is not
  // allowed (another user's terminal), each call polls first. `access` is O_RDONLY or O_WRONLY. The
  // result is not valid() if `fd` is not open.
  static Stream borrow(int fd, int access);

  // Creates or truncates a file. The path may also be a device, or a FIFO with a reader.
  static Result<Stream> create_file(const std::string& path);

  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }

  // Work as read(2) and write(2), but return errors as negative errno values: -EAGAIN if the call
  // would block, -EPIPE without a signal.
  ssize_t read(std::span<std::byte> to) const;
  ssize_t write(std::span<const std::byte> from) const;

 private:
  Fd fd_;
  bool socket_ = false;
  bool may_block_ = false;
};

}  // namespace wick
