// A disk's loop, its I/O engine and a scratch file, for the tests of block/.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <semaphore>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "block/async_io.h"
#include "block/image.h"
#include "tests/fakes/pattern.h"
#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace wick::block {

using fakes::pattern;
using fakes::shell;

enum class Engine { kUring, kThreaded };

inline std::string engine_name(const testing::TestParamInfo<Engine>& param) {
  return param.param == Engine::kUring ? "Uring" : "Threaded";
}

class DiskFixture : public testing::TestWithParam<Engine> {
 protected:
  DiskFixture() {
    thread_ = LoopThread::start("disk-test").value();
    loop().call([&] {
      io_ = (GetParam() == Engine::kUring ? AsyncIo::create_uring(loop())
                                          : AsyncIo::create_threaded(loop()))
                .value();
    });
  }
  ~DiskFixture() override {
    thread_->stop();
    disk_.reset();
    io_.reset();
  }

  EventLoop& loop() { return thread_->loop(); }

  void make_file(uint64_t size_bytes) const { make_file(path_, size_bytes); }
  static void make_file(const std::string& path, uint64_t size_bytes) {
    const Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    ASSERT_TRUE(file.valid());
    ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(size_bytes)), 0);
  }
  static void make_file(const std::string& path, std::span<const std::byte> content) {
    const Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    ASSERT_TRUE(file.valid());
    ASSERT_EQ(::write(file.get(), content.data(), content.size()),
              static_cast<ssize_t>(content.size()));
  }
  std::vector<std::byte> file_content() const {
    std::vector<std::byte> content(std::filesystem::file_size(path_));
    const Fd file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::pread(file.get(), content.data(), content.size(), 0),
              static_cast<ssize_t>(content.size()));
    return content;
  }
  uint64_t allocated_bytes() const {
    struct stat status {};
    EXPECT_EQ(::stat(path_.c_str(), &status), 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }

  Result<void> open(const ImageOptions& options) { return open(path_, options); }
  Result<void> open(const std::string& path, ImageOptions options) {
    options.lock = lock_;
    auto opened = run_on(loop(), open_image(path, options, *io_));
    if (!opened) return std::unexpected(opened.error());
    disk_ = *std::move(opened);
    return {};
  }

  // Runs one request to its end.
  Result<void> run(const std::function<Task<Result<void>>()>& request) {
    Result<void> result;
    std::binary_semaphore done(0);
    loop().post([&] {
      spawn([](const std::function<Task<Result<void>>()>& what, Result<void>& out,
               std::binary_semaphore& finished) -> Task<void> {
        out = co_await what();
        finished.release();
      }(request, result, done));
    });
    if (!done.try_acquire_for(std::chrono::seconds(30))) {
      ADD_FAILURE() << "a disk request never finished";
      std::abort();  // it holds references to this stack
    }
    return result;
  }

  Result<void> read(uint64_t offset_bytes, std::vector<iovec> buffers) {
    return run([&] { return disk_->read(offset_bytes, buffers); });
  }
  Result<void> write(uint64_t offset_bytes, std::vector<iovec> buffers) {
    return run([&] { return disk_->write(offset_bytes, buffers); });
  }
  Result<void> write(uint64_t offset_bytes, std::span<const std::byte> bytes) {
    return write(offset_bytes, std::vector{to_iovec(bytes)});
  }
  std::vector<std::byte> read_bytes(uint64_t offset_bytes, size_t size_bytes) {
    std::vector<std::byte> bytes(size_bytes, std::byte{0xcc});
    const auto result = read(offset_bytes, {to_iovec(bytes)});
    EXPECT_TRUE(result) << result.error().message();
    return bytes;
  }
  Result<void> discard(uint64_t offset_bytes, uint64_t length_bytes) {
    return run([&] { return disk_->discard(offset_bytes, length_bytes); });
  }
  Result<void> write_zeroes(uint64_t offset_bytes, uint64_t length_bytes, bool may_unmap) {
    return run([&] { return disk_->write_zeroes(offset_bytes, length_bytes, may_unmap); });
  }
  Result<void> flush() {
    return run([&] { return disk_->flush(); });
  }

  static iovec to_iovec(std::span<const std::byte> bytes) {
    return {const_cast<std::byte*>(bytes.data()), bytes.size()};
  }

  bool lock_ = false;  // so that qemu-img can open an image that a test has open
  const fakes::TempDir directory_;
  std::string path_ = directory_ / "disk.img";
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<AsyncIo> io_;
  std::unique_ptr<Backend> disk_;
};

}  // namespace wick::block
