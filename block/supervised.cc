#include "block/supervised.h"

#include <cerrno>
#include <chrono>

#include "base/buffers.h"

namespace wick::block {

namespace {

// Only the loop's thread writes, so an atomic addition is not necessary.
void add(std::atomic<uint64_t>& number, uint64_t amount) {
  number.store(number.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

}  // namespace

ErrorPolicy Supervised::action_for(const Kind& kind, const Error& error) const {
  const ErrorPolicy policy = kind.write ? policies_.write : policies_.read;
  if (policy != ErrorPolicy::kEnospc) return policy;
  return kind.write && error.code == ENOSPC ? ErrorPolicy::kStop : ErrorPolicy::kReport;
}

template <typename Start>
Task<Result<void>> Supervised::execute(Kind& kind, uint64_t bytes, Start start) {
  for (;;) {
    while (held_ && !draining_) co_await Wait{waiting_};
    if (draining_ && held_) co_return fail_errno(ECANCELED, "the device is being reset");
    ++in_flight_;
    const auto began = std::chrono::steady_clock::now();
    Result<void> result = co_await start();
    const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - began;
    --in_flight_;
    if (result) {
      add(kind.done, 1);
      add(kind.bytes, bytes);
      add(kind.time_ns, static_cast<uint64_t>(took.count()));
    } else {
      add(kind.failed, 1);
    }
    if (in_flight_ == 0 && holder_) std::exchange(holder_, {}).resume();
    if (result) co_return result;
    const ErrorPolicy action = action_for(kind, result.error());
    if (on_failure_) on_failure_({.write = kind.write, .action = action, .error = result.error()});
    if (action == ErrorPolicy::kReport || draining_) co_return result;
    if (action == ErrorPolicy::kIgnore) co_return Result<void>();
    co_await Wait{waiting_};
    if (draining_) co_return result;
  }
}

Task<void> Supervised::hold() {
  held_ = true;
  co_await Idle{*this};
}

void Supervised::release() {
  held_ = false;
  for (const auto handle : std::exchange(waiting_, {})) handle.resume();
}

void Supervised::drain(bool draining) {
  draining_ = draining;
  if (!draining) return;
  for (const auto handle : std::exchange(waiting_, {})) handle.resume();
}

void Supervised::give_up() {
  policies_ = {};
  release();
}

Counters Supervised::counters() const {
  return {.read_bytes = reads_.bytes,
          .write_bytes = writes_.bytes,
          .reads = reads_.done,
          .writes = writes_.done,
          .flushes = flushes_.done,
          .discards = discards_.done,
          .failed_reads = reads_.failed,
          .failed_writes = writes_.failed,
          .failed_flushes = flushes_.failed,
          .read_ns = reads_.time_ns,
          .write_ns = writes_.time_ns,
          .flush_ns = flushes_.time_ns};
}

Task<Result<void>> Supervised::read(uint64_t offset_bytes, std::span<const iovec> buffers) {
  return execute(reads_, total_bytes(buffers),
                 [=, this] { return image_->read(offset_bytes, buffers); });
}

Task<Result<void>> Supervised::write(uint64_t offset_bytes, std::span<const iovec> buffers) {
  return execute(writes_, total_bytes(buffers),
                 [=, this] { return image_->write(offset_bytes, buffers); });
}

Task<Result<void>> Supervised::flush() {
  return execute(flushes_, 0, [this] { return image_->flush(); });
}

Task<Result<void>> Supervised::discard(uint64_t offset_bytes, uint64_t length_bytes) {
  return execute(discards_, length_bytes,
                 [=, this] { return image_->discard(offset_bytes, length_bytes); });
}

Task<Result<void>> Supervised::write_zeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                            bool may_unmap) {
  return execute(writes_, length_bytes,
                 [=, this] { return image_->write_zeroes(offset_bytes, length_bytes, may_unmap); });
}

}  // namespace wick::block
