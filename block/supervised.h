// A disk under the control of its machine: its requests can be held during a pause, they are
// counted, and an error of the host is handled by a policy. The image below it can be replaced.
//
// Thread rule: as for Backend; counters() from any thread.
#pragma once

#include <atomic>
#include <coroutine>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/backend.h"

namespace wick::block {

// What the disk has done since the machine started. Bytes and times are sums over the requests that
// succeeded.
struct Counters {
  uint64_t read_bytes = 0, write_bytes = 0;
  uint64_t reads = 0, writes = 0, flushes = 0, discards = 0;
  uint64_t failed_reads = 0, failed_writes = 0, failed_flushes = 0;
  uint64_t read_ns = 0, write_ns = 0, flush_ns = 0;
};

// What happens to a request that the host could not execute (QEMU's rerror= and werror=).
enum class ErrorPolicy {
  kReport,  // the guest gets an error
  kIgnore,  // the guest is told that it succeeded
  kStop,    // the machine is paused; when it continues, the request is executed again
  kEnospc,  // kStop if the host has no space left, else kReport
};

class Supervised final : public Backend {
 public:
  struct Policies {
    ErrorPolicy read = ErrorPolicy::kReport;
    ErrorPolicy write = ErrorPolicy::kReport;  // also for flushes and discards
  };
  struct Failure {
    bool write = false;
    ErrorPolicy action = ErrorPolicy::kReport;  // kReport, kIgnore or kStop
    Error error;
  };

  // `on_failure` is called on the loop. If the action is kStop, it must have the machine paused.
  Supervised(std::unique_ptr<Backend> image, Policies policies,
             std::function<void(const Failure&)> on_failure)
      : image_(std::move(image)), policies_(policies), on_failure_(std::move(on_failure)) {}

  // Holds the requests: until release(), new requests wait, and so do those that failed with kStop.
  // The Task is done when no request is in flight.
  Task<void> hold();
  void release();
  void drain(bool draining) override;
  // For the end of a run: from now on errors are reported, and no request waits.
  void give_up();

  Backend& image() { return *image_; }
  const Backend& image() const { return *image_; }
  // Returns the old image. Must be called only while requests are held.
  std::unique_ptr<Backend> replace_image(std::unique_ptr<Backend> image) {
    return std::exchange(image_, std::move(image));
  }

  Counters counters() const;

  uint64_t size_bytes() const override { return image_->size_bytes(); }
  bool read_only() const override { return image_->read_only(); }
  Fd pin() const override { return image_->pin(); }
  bool can_discard() const override { return image_->can_discard(); }
  bool zeroes_fast(bool may_unmap) const override { return image_->zeroes_fast(may_unmap); }
  Task<Result<void>> update_size() override { return image_->update_size(); }
  Task<Result<void>> resize(uint64_t size_bytes) override { return image_->resize(size_bytes); }
  Task<Result<Extent>> extent(uint64_t offset_bytes, uint64_t length_bytes) override {
    return image_->extent(offset_bytes, length_bytes);
  }
  Task<Result<void>> read(uint64_t offset_bytes, std::span<const iovec> buffers) override;
  Task<Result<void>> write(uint64_t offset_bytes, std::span<const iovec> buffers) override;
  Task<Result<void>> flush() override;
  Task<Result<void>> discard(uint64_t offset_bytes, uint64_t length_bytes) override;
  Task<Result<void>> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                  bool may_unmap) override;

 private:
  using Number = std::atomic<uint64_t>;
  // The counters of one kind of request.
  struct Kind {
    bool write = false;
    Number done{0}, bytes{0}, failed{0}, time_ns{0};
  };

  template <typename Start>
  Task<Result<void>> execute(Kind& kind, uint64_t bytes, Start start);
  ErrorPolicy action_for(const Kind& kind, const Error& error) const;

  // Suspends a coroutine until release().
  struct Wait {
    std::vector<std::coroutine_handle<>>& waiting;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) const { waiting.push_back(handle); }
    void await_resume() const {}
  };
  // Suspends hold() until no request is in flight.
  struct Idle {
    Supervised& disk;
    bool await_ready() const { return disk.in_flight_ == 0; }
    void await_suspend(std::coroutine_handle<> handle) const { disk.holder_ = handle; }
    void await_resume() const {}
  };

  // Owned by the loop's thread.
  std::unique_ptr<Backend> image_;
  Policies policies_;
  const std::function<void(const Failure&)> on_failure_;
  bool held_ = false;
  bool draining_ = false;
  uint32_t in_flight_ = 0;
  std::vector<std::coroutine_handle<>> waiting_;
  std::coroutine_handle<> holder_;

  // Written by the loop's thread.
  Kind reads_, writes_{.write = true}, flushes_{.write = true}, discards_{.write = true};
};

}  // namespace wick::block
