// A file of the host whose operations end early, as system calls may.
#include "block/file.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <deque>
#include <optional>

#include "tests/block/disk_fixture.h"

namespace wick::block {
namespace {

// Moves a few bytes at a time, and is interrupted in between.
class CuttingIo final : public AsyncIo {
 public:
  // Instead of the next operation.
  std::optional<int64_t> next_result;

  void run() {
    while (!queued_.empty()) {
      IoOperation& operation = *queued_.front();
      queued_.pop_front();
      operation.complete(perform(operation));
    }
  }

 private:
  void submit(IoOperation& operation) override { queued_.push_back(&operation); }

  int64_t perform(const IoOperation& operation) {
    if (next_result) return *std::exchange(next_result, std::nullopt);
    if (++operations_ % 3 == 0) return -EINTR;
    const auto part = slice(operation.buffers, 0, 1 + operations_ * 97 % 700);
    const auto count = static_cast<int>(part.size());
    const auto offset = static_cast<off_t>(operation.offset_bytes);
    return operation.kind == IoOperation::Kind::kRead
               ? ::preadv(operation.fd, part.data(), count, offset)
               : ::pwritev(operation.fd, part.data(), count, offset);
  }

  uint64_t operations_ = 0;
  std::deque<IoOperation*> queued_;
};

class HostFile : public testing::Test {
 protected:
  HostFile() {
    Fd file(::memfd_create("file", MFD_CLOEXEC));
    file_ = open_host_file(std::move(file), "file", Cache::kWriteback, false, io_).value();
  }
  Result<void> finish(Task<Result<void>> task) {
    std::optional<Result<void>> result;
    spawn([](Task<Result<void>> what, std::optional<Result<void>>& out) -> Task<void> {
      out = co_await what;
    }(std::move(task), result));
    io_.run();
    return result.value();
  }

  CuttingIo io_;
  std::unique_ptr<File> file_;
};

TEST_F(HostFile, GoesOnWhereATransferEndedEarly) {
  const auto data = pattern(10'000, 1);
  std::vector<std::byte> back(12'000, std::byte{9});
  const auto halves = [](std::span<const std::byte> all) {
    return std::array{to_iovec(all.first(3333)), to_iovec(all.subspan(3333))};
  };
  const auto sources = halves(data), targets = halves(back);
  ASSERT_TRUE(finish(file_->write(100, sources)));
  EXPECT_EQ(file_->size_bytes(), 10'100u);
  ASSERT_TRUE(finish(file_->read(100, targets)));
  auto expected = data;
  expected.resize(12'000);  // zeroes behind the end
  EXPECT_EQ(back, expected);
}

TEST_F(HostFile, TellsTheErrorOfATransfer) {
  const auto data = pattern(10'000, 1);
  const iovec buffer = to_iovec(data);
  for (const int64_t result : {int64_t{-EIO}, int64_t{-ENOSPC}}) {
    io_.next_result = result;
    EXPECT_EQ(finish(file_->write(0, {&buffer, 1})).error().code, -result);
    io_.next_result = result;
    EXPECT_EQ(finish(file_->read(0, {&buffer, 1})).error().code, -result);
  }
  io_.next_result = 0;  // as a full device may answer
  EXPECT_EQ(finish(file_->write(0, {&buffer, 1})).error().code, ENOSPC);
}

}  // namespace
}  // namespace wick::block
