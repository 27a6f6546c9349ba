#include "block/async_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/block/disk_fixture.h"

namespace wick::block {
namespace {

class AsyncIoTest : public DiskFixture {
 protected:
  AsyncIoTest() {
    make_file(65536);
    file_ = Fd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  }
  // The result of one operation. Checks that it came later, on the loop's thread.
  int64_t result_of(const std::function<IoOperation()>& operation) {
    int64_t result = 0;
    EXPECT_TRUE(run([&]() -> Task<Result<void>> {
      return [](const std::function<IoOperation()>& make, int64_t& out) -> Task<Result<void>> {
        const auto here = std::this_thread::get_id();
        out = co_await make();
        EXPECT_EQ(std::this_thread::get_id(), here);
        co_return Result<void>();
      }(operation, result);
    }));
    return result;
  }
  Fd file_;
};

TEST_P(AsyncIoTest, ReturnsCountsAndNegativeErrnos) {
  std::array<std::byte, 512> bytes{};
  const std::array buffers = {iovec{bytes.data(), bytes.size()}};
  for (const Medium medium : {Medium::kDevice, Medium::kPageCache, Medium::kMemory}) {
    EXPECT_EQ(result_of([&] { return io_->write(file_.get(), 0, buffers, medium); }), 512);
    EXPECT_EQ(result_of([&] { return io_->write(-1, 0, buffers, medium); }), -EBADF);
  }
  EXPECT_EQ(
      result_of([&] { return io_->read(file_.get(), 65536 - 100, buffers, Medium::kPageCache); }),
      100);
  EXPECT_EQ(result_of([&] { return io_->read(file_.get(), 65536, buffers, Medium::kPageCache); }),
            0);
  EXPECT_EQ(result_of([&] { return io_->read(-1, 0, buffers, Medium::kPageCache); }), -EBADF);
  EXPECT_EQ(result_of([&] { return io_->sync(file_.get()); }), 0);
  EXPECT_EQ(result_of([&] { return io_->sync(-1); }), -EBADF);
  EXPECT_EQ(result_of([&] { return io_->allocate(file_.get(), 0, 0, 131072); }), 0);
  EXPECT_EQ(std::filesystem::file_size(path_), 131072u);
  EXPECT_EQ(result_of([&] { return io_->allocate(file_.get(), 0, 0, 0); }), -EINVAL);
}

// Returns how many of `count` operations, each made by `operation`, have completed when the
// calls that made them have returned.
class AsyncIoCount : public AsyncIoTest {
 protected:
  int completed_at_once(int count, const std::function<IoOperation()>& operation) {
    int completed = 0;
    std::binary_semaphore done(0);
    const int at_once = loop().call([&] {
      for (int i = 0; i < count; ++i)
        spawn([](const std::function<IoOperation()>& make, int& counter, int all,
                 std::binary_semaphore& release) -> Task<void> {
          EXPECT_GT(co_await make(), 0);
          if (++counter == all) release.release();
        }(operation, completed, count, done));
      return completed;
    });
    if (!done.try_acquire_for(std::chrono::seconds(30))) {
      ADD_FAILURE() << "an operation never completed";
      std::abort();  // it holds references to this stack
    }
    return at_once;
  }
};

TEST_P(AsyncIoCount, WaitsForADeviceOutsideTheCallThatSubmits) {
  std::array<std::byte, 512> bytes{};
  const std::array buffers = {iovec{bytes.data(), bytes.size()}};
  EXPECT_EQ(
      completed_at_once(3, [&] { return io_->read(file_.get(), 0, buffers, Medium::kDevice); }), 0);
}

TEST_P(AsyncIoCount, OnlyCopiesWithinTheCallThatSubmits) {
  std::array<std::byte, 512> bytes{};
  const std::array buffers = {iovec{bytes.data(), bytes.size()}};
  // After a write that took long, as on a busy machine, the next 256 are made elsewhere.
  int cached_writes = 0;
  for (int attempt = 0; attempt < 200 && cached_writes < 3; ++attempt)
    cached_writes = completed_at_once(
        3, [&] { return io_->write(file_.get(), 0, buffers, Medium::kPageCache); });
  EXPECT_EQ(cached_writes, 3);
  EXPECT_EQ(
      completed_at_once(3, [&] { return io_->write(file_.get(), 0, buffers, Medium::kMemory); }),
      3);
  EXPECT_EQ(
      completed_at_once(3, [&] { return io_->read(file_.get(), 0, buffers, Medium::kMemory); }), 3);
}

// The loop has other work, too.
TEST_P(AsyncIoCount, CopiesALimitedNumberOfBytesPerRound) {
  std::vector<std::byte> bytes(65536);
  const std::array buffers = {iovec{bytes.data(), bytes.size()}};
  EXPECT_EQ(
      completed_at_once(100, [&] { return io_->read(file_.get(), 0, buffers, Medium::kMemory); }),
      16);
}

TEST_P(AsyncIoTest, SubmitsAgainFromACompletion) {
  std::array<std::byte, 512> bytes{};
  const std::array buffers = {iovec{bytes.data(), bytes.size()}};
  EXPECT_TRUE(run([&]() -> Task<Result<void>> {
    return [](AsyncIo& io, int fd, std::span<const iovec> data) -> Task<Result<void>> {
      for (int i = 0; i < 2000; ++i) {
        const int64_t got = co_await io.read(fd, 0, data, Medium::kPageCache);
        if (got != 512) co_return fail("read {}", got);
      }
      co_return Result<void>();
    }(*io_, file_.get(), buffers);
  }));
}

// A long task that never waits for a device, such as writing zeroes to a whole disk. The loop
// must serve others meanwhile.
TEST_P(AsyncIoTest, LetsTheLoopRunBetweenTheOperationsOfALongTask) {
  std::array<std::byte, 512> bytes{};
  const std::array buffers = {iovec{bytes.data(), bytes.size()}};
  const std::array<std::function<IoOperation()>, 4> operations = {
      [&] { return io_->read(file_.get(), 0, buffers, Medium::kPageCache); },
      [&] { return io_->write(file_.get(), 0, buffers, Medium::kPageCache); },
      [&] { return io_->read(file_.get(), 0, buffers, Medium::kMemory); },
      [&] { return io_->write(file_.get(), 0, buffers, Medium::kDevice); },
  };
  for (const auto& operation : operations) {
    bool stop = false;  // only for the loop's thread
    EXPECT_TRUE(run([&]() -> Task<Result<void>> {
      return [](const std::function<IoOperation()>& again, EventLoop& on,
                bool& stopped) -> Task<Result<void>> {
        on.post([&stopped] { stopped = true; });
        while (!stopped)
          if (co_await again() != 512) co_return fail("short");
        co_return Result<void>();
      }(operation, loop(), stop);
    }));
  }
}

// An operation that waits does not delay others. (The worker thread makes its calls in order.)
class UringIoTest : public AsyncIoTest {};
TEST_P(UringIoTest, CompletesOutOfOrder) {
  std::array<int, 2> ends;
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Fd reader(ends[0]);
  Fd writer(ends[1]);
  std::array<std::byte, 512> slow{};
  const std::array slow_buffers = {iovec{slow.data(), slow.size()}};
  std::binary_semaphore pipe_read(0);
  int64_t got = -1;
  loop().post([&] {
    spawn([](AsyncIo& io, int fd, std::span<const iovec> data, int64_t& out,
             std::binary_semaphore& release) -> Task<void> {
      out = co_await io.read(fd, static_cast<uint64_t>(-1), data, Medium::kPageCache);
      release.release();
    }(*io_, reader.get(), slow_buffers, got, pipe_read));
  });
  std::array<std::byte, 512> bytes{};
  const std::array buffers = {iovec{bytes.data(), bytes.size()}};
  EXPECT_EQ(result_of([&] { return io_->read(file_.get(), 0, buffers, Medium::kPageCache); }), 512);
  EXPECT_FALSE(pipe_read.try_acquire());
  ASSERT_EQ(::write(writer.get(), "x", 1), 1);
  ASSERT_TRUE(pipe_read.try_acquire_for(std::chrono::seconds(30)));
  EXPECT_EQ(got, 1);
}

INSTANTIATE_TEST_SUITE_P(, AsyncIoCount, testing::Values(Engine::kUring, Engine::kThreaded),
                         engine_name);
INSTANTIATE_TEST_SUITE_P(, AsyncIoTest, testing::Values(Engine::kUring, Engine::kThreaded),
                         engine_name);
INSTANTIATE_TEST_SUITE_P(, UringIoTest, testing::Values(Engine::kUring), engine_name);

TEST(AsyncIo, FallsBackToAWorkerWhereTheKernelForbidsIoUring) {
  const auto loop = EventLoop::create().value();
  Result<std::unique_ptr<AsyncIo>> uring;
  Result<std::unique_ptr<AsyncIo>> chosen;
  // Like a container's seccomp profile; a filter applies only to its thread.
  std::thread([&] {
    std::array<sock_filter, 4> program = {{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    }};
    const sock_fprog filter{.len = program.size(), .filter = program.data()};
    ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
    uring = AsyncIo::create_uring(*loop);
    chosen = AsyncIo::create(*loop);
  }).join();
  ASSERT_FALSE(uring);
  EXPECT_EQ(uring.error().code, EPERM);
  ASSERT_TRUE(chosen);

  std::array<std::byte, 16> bytes{};
  const std::array buffers = {iovec{bytes.data(), bytes.size()}};
  const Fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  int64_t got = 0;
  spawn([](AsyncIo& io, EventLoop& on, int fd, std::span<const iovec> data,
           int64_t& out) -> Task<void> {
    out = co_await io.read(fd, 0, data, Medium::kPageCache);
    on.stop();
  }(**chosen, *loop, file.get(), buffers, got));
  loop->run();
  EXPECT_EQ(got, 16);
  EXPECT_EQ(std::memcmp(bytes.data(),
                        "\x7f"
                        "ELF",
                        4),
            0);
}

TEST(AsyncIo, ChoosesAnEngineByItself) {
  const auto loop = EventLoop::create().value();
  EXPECT_TRUE(AsyncIo::create(*loop));
}

}  // namespace
}  // namespace wick::block
