// File I/O that does not block its loop. Coroutines await operations; many are in flight at
// once.
//
// Thread rule: the EventLoop that it was created with.
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

// One operation; co_await submits it. The result is that of the system call: a count, or a
// negative errno. The operation and its buffers must stay in place until then, as they do in
// a coroutine's frame.
class IoOperation {
 public:
  enum class Kind : uint8_t { kRead, kWrite, kSync, kAllocate, kDiscard };

  bool await_ready();
  void await_suspend(std::coroutine_handle<> awaiting);
  int64_t await_resume() const noexcept { return result_; }

  // Called by AsyncIo's implementations.
  void complete(int64_t result) {
    result_ = result;
    awaiting_.resume();  // may destroy *this
  }

  const Kind kind;
  const int fd;
  const std::span<const iovec> buffers;  // kRead, kWrite
  const uint64_t offset_bytes = 0;
  const uint64_t length_bytes = 0;   // kAllocate, kDiscard
  const int mode = 0;                // kAllocate: as for fallocate(2)
  const bool in_page_cache = false;  // kRead, kWrite: `fd` was opened without O_DIRECT

  IoOperation(AsyncIo& io, Kind operation, int file, std::span<const iovec> data, uint64_t offset,
              uint64_t length, int allocate_mode, bool through_page_cache)
      : kind(operation),
        fd(file),
        buffers(data),
        offset_bytes(offset),
        length_bytes(length),
        mode(allocate_mode),
        in_page_cache(through_page_cache),
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
  // Uses io_uring, or a worker thread and a log line if the kernel forbids it. `loop` must
  // outlive it. At destruction no operation may be in flight, and the loop must not run any
  // more.
  static Result<std::unique_ptr<AsyncIo>> create(EventLoop& loop);
  static Result<std::unique_ptr<AsyncIo>> create_uring(EventLoop& loop);
  static Result<std::unique_ptr<AsyncIo>> create_threaded(EventLoop& loop);
  virtual ~AsyncIo() = default;

  // For a program that does nothing else on the loop: most operations that the page cache can
  // serve complete within the co_await.
  void enable_inline_completion() { inline_completion_ = true; }
  bool completes_inline() const { return inline_completion_; }

  // `in_page_cache`: `fd` was opened without O_DIRECT.
  IoOperation read(int fd, uint64_t offset_bytes, std::span<const iovec> buffers,
                   bool in_page_cache) {
    return {*this, IoOperation::Kind::kRead, fd, buffers, offset_bytes, 0, 0, in_page_cache};
  }
  IoOperation write(int fd, uint64_t offset_bytes, std::span<const iovec> buffers,
                    bool in_page_cache) {
    return {*this, IoOperation::Kind::kWrite, fd, buffers, offset_bytes, 0, 0, in_page_cache};
  }
  // fdatasync(2)
  IoOperation sync(int fd) { return {*this, IoOperation::Kind::kSync, fd, {}, 0, 0, 0, false}; }
  // fallocate(2)
  IoOperation allocate(int fd, int mode, uint64_t offset_bytes, uint64_t length_bytes) {
    return {*this, IoOperation::Kind::kAllocate, fd, {}, offset_bytes, length_bytes, mode, false};
  }
  // ioctl(BLKDISCARD), of a block device
  IoOperation discard(int fd, uint64_t offset_bytes, uint64_t length_bytes) {
    return {*this, IoOperation::Kind::kDiscard, fd, {}, offset_bytes, length_bytes, 0, false};
  }

 private:
  friend class IoOperation;
  // Completes `operation` later, never inside this call.
  virtual void submit(IoOperation& operation) = 0;
  bool try_at_once(IoOperation& operation);

  bool inline_completion_ = false;
  unsigned at_once_ = 0;  // operations in a row
};

inline bool IoOperation::await_ready() { return io_.inline_completion_ && io_.try_at_once(*this); }

inline void IoOperation::await_suspend(std::coroutine_handle<> awaiting) {
  awaiting_ = awaiting;
  io_.submit(*this);
}

}  // namespace wick::block
