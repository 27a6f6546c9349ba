#include "block/async_io.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "block/file.h"

namespace wick::block {

namespace {

// Executes an operation by its blocking system call. Returns a count or a negative errno.
int64_t perform(const IoOperation& operation) {
  const auto offset = static_cast<off_t>(operation.offset_bytes);
  const auto count = static_cast<int>(operation.buffers.size());
  int64_t result = -1;
  do {
    switch (operation.kind) {
      case IoOperation::Kind::kRead:
        result = ::preadv(operation.fd, operation.buffers.data(), count, offset);
        break;
      case IoOperation::Kind::kWrite:
        result = ::pwritev(operation.fd, operation.buffers.data(), count, offset);
        break;
      case IoOperation::Kind::kSync:
        result = ::fdatasync(operation.fd);
        break;
      case IoOperation::Kind::kAllocate:
        result = ::fallocate(operation.fd, operation.mode, offset,
                             static_cast<off_t>(operation.length_bytes));
        break;
      case IoOperation::Kind::kDiscard: {
        uint64_t range[2] = {operation.offset_bytes, operation.length_bytes};
        result = ::ioctl(operation.fd, BLKDISCARD, range);
        break;
      }
    }
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

// Returns whether copying the data takes so long that a kernel worker should do it, while this
// thread reads and prepares the next write. More than one worker would not help, because file
// systems let only one at a time write to a file.
bool is_large_write(const IoOperation& operation) {
  constexpr uint64_t kLargeBytes = 128 << 10;
  return operation.kind == IoOperation::Kind::kWrite && operation.medium != Medium::kDevice &&
         total_bytes(operation.buffers) >= kLargeBytes;
}

// Executes those operations that only copy memory, on the loop's thread and with one system call
// each. io_uring would pass most writes to a kernel worker, which costs two more context switches.
class InPlace {
 public:
  enum class Attempt : uint8_t {
    kMade,       // the operation has its result
    kLater,      // this round of the loop has reached its limit
    kElsewhere,  // it may have to wait, so the kernel or a worker must execute it
  };

  // With `all_writes`, writes to the page cache are executed here even if they may wait, unless
  // they are large.
  Attempt attempt(IoOperation& operation, bool all_writes) {
    if (!only_copies(operation, all_writes)) return Attempt::kElsewhere;
    if (left_bytes_ <= 0) return Attempt::kLater;
    left_bytes_ -= static_cast<int64_t>(std::max(total_bytes(operation.buffers), kCallBytes));
    if (operation.medium == Medium::kMemory) {
      operation.set_result(perform(operation));
      return Attempt::kMade;
    }
    return operation.kind == IoOperation::Kind::kRead ? read(operation) : write(operation);
  }

  void start_round() { left_bytes_ = kRoundBytes; }
  bool round_is_over() const { return left_bytes_ <= 0; }

 private:
  // The limit of a round, so that the loop gets to its other work. An operation is executed as a
  // whole, so the last one of a round can exceed the limit.
  static constexpr int64_t kRoundBytes = 1 << 20;
  static constexpr uint64_t kCallBytes = 4 << 10;  // a shorter operation counts as this much
  static constexpr uint64_t kMaxCachedWriteBytes = 64 << 10;
  static constexpr std::chrono::microseconds kLong{500};
  static constexpr unsigned kWritesElsewhere = 256;
  static constexpr unsigned kReadsElsewhere = 64;

  bool only_copies(const IoOperation& operation, bool all_writes) {
    const bool write = operation.kind == IoOperation::Kind::kWrite;
    if (!write && operation.kind != IoOperation::Kind::kRead) return false;
    if (all_writes && is_large_write(operation)) return false;
    if (operation.medium != Medium::kPageCache) return operation.medium == Medium::kMemory;
    if (write && all_writes) return true;
    if (write && total_bytes(operation.buffers) > kMaxCachedWriteBytes) return false;
    unsigned& elsewhere = write ? writes_elsewhere_ : reads_elsewhere_;
    if (elsewhere == 0) return true;
    --elsewhere;
    return false;
  }

  // After a read of data that is not cached, later reads probably miss the page cache, too. So the
  // next kReadsElsewhere are not tried here.
  Attempt read(IoOperation& operation) {
    const int64_t result = ::preadv2(operation.fd, operation.buffers.data(),
                                     static_cast<int>(operation.buffers.size()),
                                     static_cast<off_t>(operation.offset_bytes), RWF_NOWAIT);
    if (result < 0) {
      reads_elsewhere_ = kReadsElsewhere;
      // The kernel or a worker waits for the data, or reports the error.
      return Attempt::kElsewhere;
    }
    operation.set_result(result);
    return Attempt::kMade;
  }

  // A write that takes long had to wait for memory or the disk, and later writes may have to wait,
  // too. So the next kWritesElsewhere are not tried here.
  Attempt write(IoOperation& operation) {
    const auto start = std::chrono::steady_clock::now();
    operation.set_result(perform(operation));
    if (std::chrono::steady_clock::now() - start > kLong) writes_elsewhere_ = kWritesElsewhere;
    return Attempt::kMade;
  }

  int64_t left_bytes_ = kRoundBytes;
  unsigned writes_elsewhere_ = 0;  // the number of next writes that are not tried here
  unsigned reads_elsewhere_ = 0;   // the number of next reads that are not tried here
};

// Executes operations by blocking calls, one after the other, on a worker thread.
class ThreadedIo final : public AsyncIo {
 public:
  static Result<std::unique_ptr<ThreadedIo>> create(EventLoop& loop) {
    return std::unique_ptr<ThreadedIo>(new ThreadedIo(loop, TRY(LoopThread::start("disk-worker"))));
  }

  bool try_at_once(IoOperation& operation) override {
    return in_place_.attempt(operation, completes_inline()) == InPlace::Attempt::kMade;
  }

  void submit(IoOperation& operation) override {
    worker_->loop().post([this, &operation] {
      const int64_t result = perform(operation);
      loop_.post([&operation, result] { operation.complete(result); });
    });
  }

  // Limits what each round executes in place. Must be called if try_at_once() will be used, but not
  // by a function that runs at the end of a round.
  void bound_rounds() {
    round_end_ = loop_.at_round_end([this] {
      in_place_.start_round();
      return false;
    });
  }

 private:
  ThreadedIo(EventLoop& loop, std::unique_ptr<LoopThread> worker)
      : loop_(loop), worker_(std::move(worker)) {}

  EventLoop& loop_;
  std::unique_ptr<LoopThread> worker_;
  InPlace in_place_;
  EventLoop::RoundEnd round_end_;
};

// Collects operations during a round of the loop and passes them to the kernel together at
// its end. Some complete during the submission, so completions are handled before the loop
// sleeps.
class UringIo final : public AsyncIo {
 public:
  static Result<std::unique_ptr<AsyncIo>> create(EventLoop& loop) {
    std::unique_ptr<UringIo> self(new UringIo(loop));
    const int error = ::io_uring_queue_init(kEntries, &self->ring_, 0);
    if (error != 0) return fail_errno(-error, "io_uring: cannot create");
    self->ring_exists_ = true;
    self->watch_ = TRY(loop.watch(self->ring_.ring_fd, EPOLLIN,
                                  [raw = self.get()](uint32_t) { raw->complete_ready(); }));
    self->round_end_ = loop.at_round_end([raw = self.get()] { return raw->submit_and_complete(); });
    return self;
  }

  ~UringIo() override {
    watch_.reset();
    if (ring_exists_) ::io_uring_queue_exit(&ring_);
  }

 private:
  // Room for one full virtqueue; more operations take several submissions.
  static constexpr unsigned kEntries = 256;
  static constexpr int kTurnsPerRound = 64;

  explicit UringIo(EventLoop& loop) : loop_(loop) {}

  bool try_at_once(IoOperation& operation) override {
    return in_place_.attempt(operation, completes_inline()) == InPlace::Attempt::kMade;
  }

  void submit(IoOperation& operation) override {
    if (operation.kind == IoOperation::Kind::kDiscard)
      submit_elsewhere(operation);
    else
      queued_.push_back(&operation);
  }

  // Executes a discard on a worker thread: io_uring has no discards before Linux 6.12, and the call
  // may take long.
  void submit_elsewhere(IoOperation& operation) {
    if (!worker_) {
      auto worker = ThreadedIo::create(loop_);
      if (!worker) {
        spdlog::warn("{}", worker.error().message());
        loop_.post([&operation] { operation.complete(-EAGAIN); });
        return;
      }
      worker_ = *std::move(worker);
    }
    worker_->submit(operation);
  }

  void prepare(io_uring_sqe& entry, IoOperation& operation) const {
    const auto count = static_cast<unsigned>(operation.buffers.size());
    switch (operation.kind) {
      case IoOperation::Kind::kRead:
        ::io_uring_prep_readv(&entry, operation.fd, operation.buffers.data(), count,
                              operation.offset_bytes);
        break;
      case IoOperation::Kind::kWrite:
        ::io_uring_prep_writev(&entry, operation.fd, operation.buffers.data(), count,
                               operation.offset_bytes);
        break;
      case IoOperation::Kind::kSync:
        ::io_uring_prep_fsync(&entry, operation.fd, IORING_FSYNC_DATASYNC);
        break;
      case IoOperation::Kind::kAllocate:
        ::io_uring_prep_fallocate(&entry, operation.fd, operation.mode,
                                  static_cast<off_t>(operation.offset_bytes),
                                  static_cast<off_t>(operation.length_bytes));
        break;
      case IoOperation::Kind::kDiscard:
        std::unreachable();
    }
    // Without this flag, some file systems would copy the data within the submission.
    if (completes_inline() && is_large_write(operation))
      ::io_uring_sqe_set_flags(&entry, IOSQE_ASYNC);
    ::io_uring_sqe_set_data(&entry, &operation);
  }

  // Returns true if operations are left for the next round.
  bool submit_and_complete() {
    in_place_.start_round();
    // A completion may queue new operations, so repeats until the queue is empty. The limit
    // keeps endless completions from blocking the rest of the loop.
    for (int turn = 0; turn < kTurnsPerRound; ++turn) {
      const bool left = prepare_queued();
      if (::io_uring_sq_ready(&ring_) > 0) {
        // The call fails if memory or completion slots are used up (EAGAIN, EBUSY), or if it is
        // interrupted. The next round tries again, when completions have made room.
        const int submitted = ::io_uring_submit(&ring_);
        complete_ready();
        if (submitted < 0) return true;
      }
      if (left || queued_.empty()) return left;
    }
    return true;
  }

  // Executes queued operations in place, or prepares their ring entries. Returns true if some must
  // wait for the next round; these are queued again.
  bool prepare_queued() {
    bool left = false;
    batch_.clear();
    batch_.swap(queued_);
    for (IoOperation* const operation : batch_) {
      const InPlace::Attempt attempt = in_place_.attempt(*operation, completes_inline());
      if (attempt == InPlace::Attempt::kMade) {
        operation->resume();
        continue;
      }
      io_uring_sqe* const entry =
          attempt == InPlace::Attempt::kLater ? nullptr : ::io_uring_get_sqe(&ring_);
      if (entry != nullptr) {
        prepare(*entry, *operation);
      } else {
        queued_.push_back(operation);
        left = true;
      }
    }
    return left;
  }

  void complete_ready() {
    io_uring_cqe* entry = nullptr;
    while (::io_uring_peek_cqe(&ring_, &entry) == 0) {
      auto* operation = static_cast<IoOperation*>(::io_uring_cqe_get_data(entry));
      const int64_t result = entry->res;
      ::io_uring_cqe_seen(&ring_, entry);
      operation->complete(result);
    }
  }

  EventLoop& loop_;
  std::unique_ptr<ThreadedIo> worker_;  // created at the first discard
  bool ring_exists_ = false;

  // Owned by the loop's thread.
  io_uring ring_{};
  InPlace in_place_;
  std::vector<IoOperation*> queued_;  // not handed to the kernel yet
  std::vector<IoOperation*> batch_;   // those of queued_ that prepare_queued() handles
  EventLoop::Watch watch_;
  EventLoop::RoundEnd round_end_;
};

}  // namespace

Result<std::unique_ptr<AsyncIo>> AsyncIo::create_uring(EventLoop& loop) {
  return UringIo::create(loop);
}

Result<std::unique_ptr<AsyncIo>> AsyncIo::create_threaded(EventLoop& loop) {
  auto threaded = TRY(ThreadedIo::create(loop));
  threaded->bound_rounds();
  return std::unique_ptr<AsyncIo>(std::move(threaded));
}

Result<std::unique_ptr<AsyncIo>> AsyncIo::create(EventLoop& loop) {
  auto uring = create_uring(loop);
  if (uring) return uring;
  spdlog::info("{}; disk I/O uses a worker thread", uring.error().message());
  return create_threaded(loop);
}

}  // namespace wick::block
