// wick image bench
#include <fmt/format.h>

#include <chrono>

#include "block/io_thread.h"
#include "block/qcow2/qcow2.h"
#include "image/commands.h"
#include "image/files.h"

namespace wick::image {

namespace {

using block::Backend;

// Keeps `depth` requests in flight, each at the offset behind the one before, as qemu-img
// does. A flush waits for the requests before it.
class Bench {
 public:
  Bench(Backend& disk, const ImageBench& command)
      : disk_(disk),
        command_(command),
        step_(command.step_bytes != 0 ? command.step_bytes : command.buffer_bytes),
        offset_(command.offset_bytes),
        buffer_(command.buffer_bytes, command.pattern) {}

  Task<Result<void>> run() {
    while (sent_ < command_.count && result_) {
      const uint64_t until_flush = command_.flush_interval == 0
                                       ? command_.count - sent_
                                       : command_.flush_interval - sent_ % command_.flush_interval;
      group_ = std::min(until_flush, command_.count - sent_);
      running_ = std::min(group_, command_.depth);
      for (uint64_t i = running_; i > 0; --i) spawn(send());
      co_await AllDone{*this};
      if (result_ && command_.flush_interval != 0 && sent_ % command_.flush_interval == 0)
        result_ = co_await disk_.flush();
    }
    co_return result_;
  }

 private:
  struct AllDone {
    Bench& bench;
    bool await_ready() const { return bench.running_ == 0; }
    void await_suspend(std::coroutine_handle<> handle) const { bench.waiting_ = handle; }
    void await_resume() const {}
  };

  Task<void> send() {
    while (group_ > 0 && result_) {
      --group_;
      ++sent_;
      const uint64_t at = offset_;
      // Wraps around at the disk's end. As in qemu-img, a request may reach beyond the end.
      const uint64_t size = disk_.size_bytes();
      offset_ += step_;
      offset_ = size == 0 ? 0 : offset_ % size;
      const iovec buffer = block::to_iovec(buffer_);
      Result<void> done;
      if (command_.write)
        done = co_await disk_.write(at, {&buffer, 1});
      else
        done = co_await disk_.read(at, {&buffer, 1});
      if (!done && result_) result_ = std::move(done);
    }
    if (--running_ == 0 && waiting_) std::exchange(waiting_, {}).resume();
  }

  Backend& disk_;
  const ImageBench& command_;
  const uint64_t step_;
  uint64_t offset_;
  std::vector<std::byte> buffer_;
  uint64_t sent_ = 0;
  uint64_t group_ = 0;  // requests still to be sent before the next flush
  uint64_t running_ = 0;
  std::coroutine_handle<> waiting_;
  Result<void> result_;
};

}  // namespace

Result<int> execute(const ImageBench& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  auto options =
      command.write ? writing(command.format, command.trust_names) : reading(command.format);
  options.lock = !command.share;
  options.cache = command.cache;
  const auto disk =
      TRY(thread->run([&] { return block::open_image(command.path, options, thread->io()); }));
  fmt::print(
      "Sending {} {} requests, {} bytes each, {} in parallel (starting at offset {}, step size "
      "{})\n",
      command.count, command.write ? "write" : "read", command.buffer_bytes, command.depth,
      command.offset_bytes, command.step_bytes != 0 ? command.step_bytes : command.buffer_bytes);
  if (command.flush_interval > 0)
    fmt::print("Sending flush every {} requests\n", command.flush_interval);
  const auto start = std::chrono::steady_clock::now();
  Bench bench(*disk, command);
  TRY(thread->run([&] { return bench.run(); }));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  fmt::print("Run completed in {:.3f} seconds.\n", seconds.count());
  TRY(thread->run([&] { return disk->flush(); }));
  return 0;
}

}  // namespace wick::image
