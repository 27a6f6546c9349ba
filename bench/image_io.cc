// qemu-img bench for wick's own disk images: COUNT requests of 4 KiB, DEPTH in flight, each STEP
// bytes after the one before, wrapping around at the end.
//
//   image_io FILE read|write COUNT DEPTH STEP
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "block/image.h"

namespace wick::block {
namespace {

constexpr uint64_t kRequestBytes = 4096;

template <typename T>
T must(Result<T> result) {
  if (result) return *std::move(result);
  fmt::print(stderr, "image_io: {}\n", result.error().message());
  std::exit(1);
}

struct Run {
  Backend& disk;
  const bool write;
  uint64_t left;
  const uint64_t step_bytes;
  uint64_t offset_bytes = 0;
  uint64_t running = 0;
  std::coroutine_handle<> waiting = {};
};

Task<void> requests(Run& run) {
  alignas(4096) std::byte buffer[kRequestBytes];
  std::memset(buffer, 7, sizeof(buffer));
  const iovec buffers{buffer, sizeof(buffer)};
  while (run.left > 0) {
    --run.left;
    const uint64_t offset = run.offset_bytes;
    run.offset_bytes = (offset + run.step_bytes) % run.disk.size_bytes();
    Result<void> done;
    if (run.write)
      done = co_await run.disk.write(offset, {&buffers, 1});
    else
      done = co_await run.disk.read(offset, {&buffers, 1});
    if (!done) {
      fmt::print(stderr, "image_io: {}\n", done.error().message());
      std::exit(1);
    }
  }
  if (--run.running == 0 && run.waiting) run.waiting.resume();
}

struct AllDone {
  Run& run;
  bool await_ready() const { return run.running == 0; }
  void await_suspend(std::coroutine_handle<> handle) const { run.waiting = handle; }
  void await_resume() const {}
};

Task<Result<double>> measure(Run& run, uint64_t depth) {
  const auto start = std::chrono::steady_clock::now();
  run.running = depth;
  for (uint64_t i = 0; i < depth; ++i) spawn(requests(run));
  co_await AllDone{run};
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  if (!run.disk.read_only())
    if (auto flushed = co_await run.disk.flush(); !flushed)
      co_return std::unexpected(std::move(flushed).error());
  co_return taken.count();
}

int main(int argc, char** argv) {
  if (argc != 6) {
    fmt::print(stderr, "usage: image_io FILE read|write COUNT DEPTH STEP\n");
    return 2;
  }
  const std::string path = argv[1];
  const bool write = std::strcmp(argv[2], "write") == 0;
  const auto thread = must(LoopThread::start("image_io"));
  EventLoop& loop = thread->loop();
  std::unique_ptr<AsyncIo> io;
  loop.call([&] { io = must(AsyncIo::create(loop)); });
  ImageOptions options;
  options.read_only = !write;
  auto disk = must(run_on(loop, open_image(path, options, *io)));
  Run run{*disk, write, std::strtoull(argv[3], nullptr, 0), std::strtoull(argv[5], nullptr, 0)};
  const double seconds = must(run_on(loop, measure(run, std::strtoull(argv[4], nullptr, 0))));
  fmt::print("Run completed in {:.3f} seconds.\n", seconds);
  thread->stop();
  disk.reset();
  return 0;
}

}  // namespace
}  // namespace wick::block

int main(int argc, char** argv) { return wick::block::main(argc, argv); }
