#include "block/async_io.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>

#include <chrono>
#include <deque>
#include <vector>

#include "block/file.h"

namespace wick::block {

namespace {

// Makes the blocking system call.
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

// Reads only from the page cache. The result is that of preadv2(2), negative if nothing is
// cached.
int64_t read_cached(const IoOperation& read) {
  return ::preadv2(read.fd, read.buffers.data(), static_cast<int>(read.buffers.size()),
                   static_cast<off_t>(read.offset_bytes), RWF_NOWAIT);
}

// One worker that makes the blocking calls in order.
class ThreadedIo final : public AsyncIo {
 public:
  static Result<std::unique_ptr<ThreadedIo>> create(EventLoop& loop) {
    return std::unique_ptr<ThreadedIo>(new ThreadedIo(loop, TRY(LoopThread::start("disk-worker"))));
  }

  void submit(IoOperation& operation) override {
    worker_->loop().post([this, &operation] {
      const int64_t result = perform(operation);
      loop_.post([&operation, result] { operation.complete(result); });
    });
  }

 private:
  ThreadedIo(EventLoop& loop, std::unique_ptr<LoopThread> worker)
      : loop_(loop), worker_(std::move(worker)) {}

  EventLoop& loop_;
  std::unique_ptr<LoopThread> worker_;
};

// Collects submissions during a round of the loop and passes them to the kernel together at
// its end. Operations that the page cache serves complete during the submission, so
// completions are handled before the loop sleeps.
class UringIo final : public AsyncIo {
 public:
  static Result<std::unique_ptr<AsyncIo>> create(EventLoop& loop) {
    std::unique_ptr<UringIo> self(new UringIo(loop));
    const int error = ::io_uring_queue_init(kEntries, &self->ring_, 0);
    if (error != 0) return fail_errno(-error, "io_uring: cannot create");
    self->ring_exists_ = true;
    self->watch_ = TRY(loop.watch(self->ring_.ring_fd, EPOLLIN,
                                  [raw = self.get()](uint32_t) { raw->complete_ready(); }));
    self->round_end_ =
        loop.at_round_end([raw = self.get()] { return raw->submit_and_complete(); });
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
  static constexpr uint64_t kMaxCopiedBytes = 64 << 10;
  static constexpr std::chrono::microseconds kLong{500};
  static constexpr unsigned kWritesElsewhere = 256;
  static constexpr unsigned kReadsElsewhere = 64;

  explicit UringIo(EventLoop& loop) : loop_(loop) {}

  void submit(IoOperation& operation) override {
    if (operation.kind == IoOperation::Kind::kDiscard)
      submit_elsewhere(operation);
    else
      queued_.push_back(&operation);
  }

  // For discards: io_uring has none before Linux 6.12, and the call may take long.
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

  static void prepare(io_uring_sqe& entry, IoOperation& operation) {
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
    ::io_uring_sqe_set_data(&entry, &operation);
  }

  // Returns true if operations are left for the next round.
  bool submit_and_complete() {
    // A completion may queue new operations, so repeats until the queue is empty. The limit
    // keeps endless completions from blocking the rest of the loop.
    for (int turn = 0; !queued_.empty() || ::io_uring_sq_ready(&ring_) > 0; ++turn) {
      if (turn == kTurnsPerRound) return true;
      if (queued_.size() == 1 && read_at_once(*queued_.front())) continue;
      for (; !queued_.empty(); queued_.pop_front()) {
        IoOperation& operation = *queued_.front();
        if (only_copies(operation)) {
          copies_.push_back(&operation);
          continue;
        }
        io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
        if (entry == nullptr) break;
        prepare(*entry, operation);
      }
      const int submitted = ::io_uring_sq_ready(&ring_) > 0 ? ::io_uring_submit(&ring_) : 0;
      complete_ready();
      for (IoOperation* const copy : std::exchange(copies_, {})) copy->complete(timed(*copy));
      // Out of memory or completion slots (EAGAIN, EBUSY), or interrupted. Tries again in the
      // next round, when completions have made room.
      if (submitted < 0) return true;
    }
    return false;
  }

  // The page cache serves most single reads, and then one system call is enough. Several
  // reads at once are cheaper through the ring.
  bool read_at_once(IoOperation& operation) {
    if (operation.kind != IoOperation::Kind::kRead || !operation.in_page_cache) return false;
    if (reads_elsewhere_ > 0) {
      --reads_elsewhere_;
      return false;
    }
    const int64_t result = read_cached(operation);
    if (result < 0) {  // the ring waits for the data, or reports the same error
      reads_elsewhere_ = kReadsElsewhere;
      return false;
    }
    queued_.pop_front();
    operation.complete(result);
    return true;
  }

  // Whether a write only copies to the page cache. io_uring would wake a kernel worker for
  // it, and two context switches take longer than a small copy.
  bool only_copies(const IoOperation& operation) {
    if (operation.kind != IoOperation::Kind::kWrite || !operation.in_page_cache) return false;
    if (completes_inline()) return true;
    if (total_bytes(operation.buffers) > kMaxCopiedBytes) return false;
    if (writes_elsewhere_ == 0) return true;
    --writes_elsewhere_;
    return false;
  }

  // If a write takes long, it had to wait for memory or the disk. Later writes may have to
  // wait, too, so they go through the ring, which does not block the loop.
  int64_t timed(const IoOperation& write) {
    const auto start = std::chrono::steady_clock::now();
    const int64_t result = perform(write);
    if (std::chrono::steady_clock::now() - start > kLong) writes_elsewhere_ = kWritesElsewhere;
    return result;
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
  std::unique_ptr<ThreadedIo> worker_;  // from the first discard on
  bool ring_exists_ = false;

  // Owned by the loop's thread.
  io_uring ring_{};
  std::deque<IoOperation*> queued_;   // not handed to the kernel yet
  std::vector<IoOperation*> copies_;  // of this round
  unsigned writes_elsewhere_ = 0;     // number of writes that still go through the ring
  unsigned reads_elsewhere_ = 0;      // number of reads that still go through the ring
  EventLoop::Watch watch_;
  EventLoop::RoundEnd round_end_;
};

}  // namespace

bool AsyncIo::try_at_once(IoOperation& operation) {
  // The limit of operations in a row, so that the loop gets to its other work.
  constexpr unsigned kMaxInRow = 32;
  const bool write = operation.kind == IoOperation::Kind::kWrite && operation.in_page_cache;
  if ((!write && operation.kind != IoOperation::Kind::kRead) || ++at_once_ > kMaxInRow) {
    at_once_ = 0;
    return false;
  }
  if (write) {
    operation.result_ = perform(operation);
    return true;
  }
  operation.result_ = read_cached(operation);
  return operation.result_ >= 0;  // otherwise submit() waits for the data, or fails again
}

Result<std::unique_ptr<AsyncIo>> AsyncIo::create_uring(EventLoop& loop) {
  return UringIo::create(loop);
}

Result<std::unique_ptr<AsyncIo>> AsyncIo::create_threaded(EventLoop& loop) {
  return ThreadedIo::create(loop);
}

Result<std::unique_ptr<AsyncIo>> AsyncIo::create(EventLoop& loop) {
  auto uring = create_uring(loop);
  if (uring) return uring;
  spdlog::info("{}; disk I/O uses a worker thread", uring.error().message());
  return create_threaded(loop);
}

}  // namespace wick::block
