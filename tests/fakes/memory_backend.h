// A disk in memory. Tests control when its operations complete and whether they fail.
//
// Thread rule: as for block::Backend, on its loop; any thread may call calls().
#pragma once

#include <atomic>
#include <coroutine>
#include <cstring>
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "block/backend.h"

namespace wick::fakes {

class MemoryBackend final : public block::Backend {
 public:
  enum class Delay {
    kNone,       // completes inside the call
    kNextRound,  // completes in a later round of the loop
    kHeld,       // completes when the test calls a release function
  };

  struct Calls {
    std::atomic<int> reads = 0;
    std::atomic<int> writes = 0;
    std::atomic<int> flushes = 0;
    std::atomic<int> discards = 0;
    std::atomic<int> zeroes = 0;
    std::atomic<bool> last_zeroes_may_unmap = false;
    std::atomic<int> held = 0;  // operations that are held now
  };

  MemoryBackend(EventLoop& loop, uint64_t size_bytes, bool read_only = false)
      : loop_(loop), read_only_(read_only), bytes_(size_bytes) {}

  const Calls& calls() const { return calls_; }

  // All other functions are called on the loop, or before the first operation.
  void set_delay(Delay delay) { delay_ = delay; }
  // Makes the next `count` requests of any kind fail with `code`, an errno value.
  void fail_next(int count, int code) {
    failures_ = count;
    failure_code_ = code;
  }
  std::span<std::byte> bytes() { return bytes_; }
  // Called before the disk is given to a device.
  void set_zeroes_fast(bool fast) { zeroes_fast_ = fast; }
  void set_size(uint64_t size_bytes) { bytes_.resize(size_bytes); }

  void release_oldest() { release(true); }
  void release_newest() { release(false); }
  void release_all() {
    while (!held_.empty()) release(true);
  }

  uint64_t size_bytes() const override { return bytes_.size(); }
  bool read_only() const override { return read_only_; }
  bool can_discard() const override { return !read_only_; }
  bool zeroes_fast(bool) const override { return zeroes_fast_; }

  Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) override {
    ++calls_.reads;
    co_await Pause{*this};
    if (auto refused = check(offset_bytes, total_bytes(buffers), false); !refused)
      co_return refused;
    for (const iovec& buffer : buffers) {
      if (buffer.iov_len > 0) std::memcpy(buffer.iov_base, &bytes_[offset_bytes], buffer.iov_len);
      offset_bytes += buffer.iov_len;
    }
    co_return Result<void>();
  }

  Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) override {
    ++calls_.writes;
    co_await Pause{*this};
    if (auto refused = check(offset_bytes, total_bytes(buffers), true); !refused) co_return refused;
    for (const iovec& buffer : buffers) {
      if (buffer.iov_len > 0) std::memcpy(&bytes_[offset_bytes], buffer.iov_base, buffer.iov_len);
      offset_bytes += buffer.iov_len;
    }
    co_return Result<void>();
  }

  Task<Result<void>> flush() override {
    ++calls_.flushes;
    co_await Pause{*this};
    co_return check(0, 0, false);
  }

  Task<Result<void>> discard(uint64_t offset_bytes, uint64_t length_bytes) override {
    ++calls_.discards;
    co_await Pause{*this};
    co_return clear(offset_bytes, length_bytes);
  }

  Task<Result<void>> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                  bool may_unmap) override {
    ++calls_.zeroes;
    calls_.last_zeroes_may_unmap = may_unmap;
    co_await Pause{*this};
    co_return clear(offset_bytes, length_bytes);
  }

 private:
  struct Pause {
    MemoryBackend& disk;
    bool await_ready() const { return disk.delay_ == Delay::kNone; }
    void await_suspend(std::coroutine_handle<> waiting) const {
      if (disk.delay_ == Delay::kNextRound) {
        disk.loop_.post([waiting] { waiting.resume(); });
      } else {
        disk.held_.push_back(waiting);
        ++disk.calls_.held;
      }
    }
    void await_resume() const {}
  };

  void release(bool oldest) {
    if (held_.empty()) return;
    const auto waiting = oldest ? held_.front() : held_.back();
    if (oldest)
      held_.pop_front();
    else
      held_.pop_back();
    --calls_.held;
    waiting.resume();
  }

  static uint64_t total_bytes(std::span<const iovec> buffers) {
    uint64_t total = 0;
    for (const iovec& buffer : buffers) total += buffer.iov_len;
    return total;
  }

  Result<void> check(uint64_t offset_bytes, uint64_t length_bytes, bool writes) {
    if (failures_ > 0) {
      --failures_;
      return fail_errno(failure_code_, "memory disk: told to fail");
    }
    if (writes && read_only_) return fail_errno(EROFS, "memory disk");
    if (offset_bytes > bytes_.size() || length_bytes > bytes_.size() - offset_bytes)
      return fail_errno(EINVAL, "memory disk: outside");
    return {};
  }

  Result<void> clear(uint64_t offset_bytes, uint64_t length_bytes) {
    auto checked = check(offset_bytes, length_bytes, true);
    if (checked && length_bytes > 0) std::memset(&bytes_[offset_bytes], 0, length_bytes);
    return checked;
  }

  EventLoop& loop_;
  const bool read_only_;
  Calls calls_;

  // Owned by the loop's thread.
  std::vector<std::byte> bytes_;
  Delay delay_ = Delay::kNone;
  bool zeroes_fast_ = true;
  int failures_ = 0;
  int failure_code_ = 0;
  std::deque<std::coroutine_handle<>> held_;
};

}  // namespace wick::fakes
