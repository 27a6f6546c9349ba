// File I/O that does not block its loop: coroutines await operations, and many operations can be in
// flight at once.
//
// Thread rule: an AsyncIo is used on the thread of the EventLoop that create() got.
#pragma once

#include <sys/uio.h>

#include <coroutine>
#include <cstdint>
#include <memory>
#include <span>

#include "base/event_loop.h"
#include "base/result.h"

namespace wick::block {

class AsyncIo;

// What an operation on an open file may have to wait for.
enum class Medium : uint8_t {
  kDevice,     // the device: the file is open with O_DIRECT
  kPageCache,  // the device, if the page cache does not have the data or is full
  kMemory,     // nothing: the file is in memory (tmpfs). Only swapped pages must be read.
};

// One operation; co_await submits it. The result is that of the system call: a count, or a negative
// errno. An operation that need not wait may complete within the co_await. The operation and its
// buffers must stay in place until it completes, as they do in a coroutine's frame.
class IoOperation {
 public:
  enum class Kind : uint8_t { kRead, kWrite, kSync, kAllocate, kDiscard };

  bool await_ready();
  void await_suspend(std::coroutine_handle<> awaiting);
  int64_t await_resume() const noexcept { return result_; }

  // Called by AsyncIo's implementations. resume() may destroy *this.
  void set_result(int64_t result) { result_ = result; }
  void resume() { awaiting_.resume(); }
  void complete(int64_t result) {
    set_result(result);
    resume();
  }

  const Kind kind;
  const int fd;
  const std::span<const iovec> buffers;  // for kRead and kWrite
  const uint64_t offset_bytes = 0;
  const uint64_t length_bytes = 0;  // for kAllocate and kDiscard
  const int mode = 0;               // for kAllocate: as in fallocate(2)
  const Medium medium = Medium::kDevice;

  IoOperation(AsyncIo& io, Kind operation, int file, std::span<const iovec> data, uint64_t offset,
              uint64_t length, int allocate_mode, Medium of_file)
      : kind(operation),
        fd(file),
        buffers(data),
        offset_bytes(offset),
        length_bytes(length),
        mode(allocate_mode),
        medium(of_file),
        io_(io) {}
  IoOperation(const IoOperation&) = delete;
  IoOperation& operator=(const IoOperation&) = delete;

 private:
  friend class AsyncIo;
  AsyncIo& io_;
  int64_t result_ = 0;
  std::coroutine_handle<> awaiting_;
};

class AsyncIo {
 public:
  // Uses io_uring. If the kernel forbids that, logs it and uses a worker thread. `loop` must
  // outlive the AsyncIo. When the AsyncIo is destroyed, no operation may be in flight, and the loop
  // must no longer run.
  static Result<std::unique_ptr<AsyncIo>> create(EventLoop& loop);
  static Result<std::unique_ptr<AsyncIo>> create_uring(EventLoop& loop);
  static Result<std::unique_ptr<AsyncIo>> create_threaded(EventLoop& loop);
  virtual ~AsyncIo() = default;

  // Makes writes to the page cache complete within the co_await, even if they have to wait; this
  // suits a program that does nothing else on the loop. A large write still goes to a worker, so
  // that the program can prepare the next write meanwhile.
  void enable_inline_completion() { inline_completion_ = true; }
  bool completes_inline() const { return inline_completion_; }

  IoOperation read(int fd, uint64_t offset_bytes, std::span<const iovec> buffers, Medium medium) {
    return {*this, IoOperation::Kind::kRead, fd, buffers, offset_bytes, 0, 0, medium};
  }
  IoOperation write(int fd, uint64_t offset_bytes, std::span<const iovec> buffers, Medium medium) {
    return {*this, IoOperation::Kind::kWrite, fd, buffers, offset_bytes, 0, 0, medium};
  }
  // Calls fdatasync(2).
  IoOperation sync(int fd) {
    return {*this, IoOperation::Kind::kSync, fd, {}, 0, 0, 0, Medium::kDevice};
  }
  // Calls fallocate(2).
  IoOperation allocate(int fd, int mode, uint64_t offset_bytes, uint64_t length_bytes) {
    return {*this,          IoOperation::Kind::kAllocate, fd, {}, offset_bytes, length_bytes, mode,
            Medium::kDevice};
  }
  // Calls ioctl(BLKDISCARD) on a block device.
  IoOperation discard(int fd, uint64_t offset_bytes, uint64_t length_bytes) {
    return {*this,          IoOperation::Kind::kDiscard, fd, {}, offset_bytes, length_bytes, 0,
            Medium::kDevice};
  }

 private:
  friend class IoOperation;
  // Tries to execute the operation at once. Returns true if its result is set, false if it must be
  // submitted.
  virtual bool try_at_once(IoOperation& operation) {
    static_cast<void>(operation);
    return false;
  }
  // Completes `operation` later, never inside this call.
  virtual void submit(IoOperation& operation) = 0;

  bool inline_completion_ = false;
};

inline bool IoOperation::await_ready() { return io_.try_at_once(*this); }

inline void IoOperation::await_suspend(std::coroutine_handle<> awaiting) {
  awaiting_ = awaiting;
  io_.submit(*this);
}

}  // namespace wick::block
