// A host file whose operations end early, as those of system calls may.
#include "block/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <deque>
#include <filesystem>
#include <optional>

#include "tests/block/disk_fixture.h"
#include "tests/fakes/temp_dir.h"

namespace wick::block {
namespace {

// Transfers a few bytes at a time, with interruptions in between.
class CuttingIo final : public AsyncIo {
 public:
  // The result of the next operation, which is not made.
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
  expected.resize(12'000);  // zeroes beyond the end
  EXPECT_EQ(back, expected);
}

// Only UBSan sees the difference.
TEST(FillZeroes, AnEmptyBufferMayHaveNoAddress) {
  std::array<char, 4> bytes = {'a', 'b', 'c', 'd'};
  const std::array<iovec, 2> buffers = {iovec{nullptr, 0}, iovec{bytes.data(), 3}};
  fill_zeroes(buffers);
  EXPECT_EQ(bytes, (std::array<char, 4>{0, 0, 0, 'd'}));
}

TEST_F(HostFile, ReportsTheErrorOfATransfer) {
  const auto data = pattern(10'000, 1);
  const iovec buffer = to_iovec(data);
  for (const int64_t result : {int64_t{-EIO}, int64_t{-ENOSPC}}) {
    io_.next_result = result;
    EXPECT_EQ(finish(file_->write(0, {&buffer, 1})).error().code, -result);
    io_.next_result = result;
    EXPECT_EQ(finish(file_->read(0, {&buffer, 1})).error().code, -result);
  }
  io_.next_result = 0;  // as a full device may return
  EXPECT_EQ(finish(file_->write(0, {&buffer, 1})).error().code, ENOSPC);
}

// Returns results without doing anything, and records the operations.
class NotingIo final : public AsyncIo {
 public:
  struct Asked {
    IoOperation::Kind kind;
    uint64_t offset;
    uint64_t length;
    int mode;
  };
  std::vector<Asked> asked;
  std::deque<int64_t> results;  // of operations other than writes; then 0

  void run() {
    while (!queued_.empty()) {
      IoOperation& operation = *queued_.front();
      queued_.pop_front();
      const bool write = operation.kind == IoOperation::Kind::kWrite;
      const uint64_t bytes = write ? total_bytes(operation.buffers) : operation.length_bytes;
      asked.push_back({operation.kind, operation.offset_bytes, bytes, operation.mode});
      int64_t result = write ? static_cast<int64_t>(bytes) : 0;
      if (!write && !results.empty()) {
        result = results.front();
        results.pop_front();
      }
      operation.complete(result);
    }
  }

 private:
  void submit(IoOperation& operation) override { queued_.push_back(&operation); }
  std::deque<IoOperation*> queued_;
};

class FileAbilitiesTest : public testing::Test {
 protected:
  void open(const FileAbilities& abilities) {
    Fd file(::memfd_create("file", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), kFileBytes), 0);
    file_ = make_host_file(std::move(file), Fd(), abilities, true, "file", io_);
    io_.asked.clear();
  }
  Result<void> finish(Task<Result<void>> task) {
    std::optional<Result<void>> result;
    spawn([](Task<Result<void>> what, std::optional<Result<void>>& out) -> Task<void> {
      out = co_await what;
    }(std::move(task), result));
    io_.run();
    return result.value();
  }

  static constexpr off_t kFileBytes = 1 << 20;
  NotingIo io_;
  std::unique_ptr<File> file_;
};

TEST_F(FileAbilitiesTest, ADeviceDiscardsWithoutWritingZeroes) {
  open({.is_device = true, .sector_bytes = 4096, .discards = true, .zeroes_fast = false});
  EXPECT_TRUE(file_->can_discard());
  ASSERT_TRUE(finish(file_->discard(512, 3 * 4096)));  // whole sectors of the device only
  ASSERT_EQ(io_.asked.size(), 1u);
  EXPECT_EQ(io_.asked[0].kind, IoOperation::Kind::kDiscard);
  EXPECT_EQ(io_.asked[0].offset, 4096u);
  EXPECT_EQ(io_.asked[0].length, 2u * 4096);
  ASSERT_TRUE(finish(file_->discard(512, 4096)));  // covers no whole sector
  EXPECT_EQ(io_.asked.size(), 1u);
}

TEST_F(FileAbilitiesTest, ADiscardThatTheHostDoesNotSupportIsNotAnError) {
  for (const bool is_device : {false, true}) {
    open({.is_device = is_device, .discards = true});
    io_.results = {-EOPNOTSUPP};
    EXPECT_TRUE(finish(file_->discard(0, 8192)));
    EXPECT_EQ(io_.asked.size(), 1u);  // and nothing is written instead
    io_.results = {-EIO};
    EXPECT_EQ(finish(file_->discard(0, 8192)).error().code, EIO);
    open({.is_device = is_device, .discards = false});
    EXPECT_TRUE(finish(file_->discard(0, 8192)));
    EXPECT_TRUE(io_.asked.empty());
  }
}

TEST_F(FileAbilitiesTest, AFileDiscardsByAHole) {
  open({.discards = true, .zeroes_fast = true});
  ASSERT_TRUE(finish(file_->discard(512, 8192)));
  ASSERT_EQ(io_.asked.size(), 1u);
  EXPECT_EQ(io_.asked[0].kind, IoOperation::Kind::kAllocate);
  EXPECT_EQ(io_.asked[0].mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

TEST_F(FileAbilitiesTest, FindsOutThatZeroesAreNotFast) {
  open({.discards = true, .zeroes_fast = true});
  io_.results = {-EOPNOTSUPP};
  ASSERT_TRUE(finish(file_->zero(0, 300 << 10)));
  EXPECT_FALSE(file_->zeroes_fast(false));
  EXPECT_TRUE(file_->zeroes_fast(true));  // by punching a hole
  ASSERT_EQ(io_.asked.size(), 3u);        // one fallocate, then writes
  EXPECT_EQ(io_.asked[1].length + io_.asked[2].length, 300u << 10);
}

// A file that grew would be a larger disk at the next start.
TEST_F(FileAbilitiesTest, NoZeroesAreWrittenBehindTheEnd) {
  open({.discards = true, .zeroes_fast = true});
  io_.results = {-EOPNOTSUPP, -EOPNOTSUPP};
  ASSERT_TRUE(finish(file_->zero(kFileBytes - 1000, 4096)));
  ASSERT_EQ(io_.asked.size(), 2u);
  EXPECT_EQ(io_.asked[1].length, 1000u);
  ASSERT_TRUE(finish(file_->zero(kFileBytes, 4096)));
  EXPECT_EQ(io_.asked.size(), 3u) << "only the fallocate";
}

TEST_F(FileAbilitiesTest, OfADeviceComeFromItsQueuesLimits) {
  const fakes::TempDir folder;
  std::filesystem::create_directories(folder / "sda/queue");
  std::filesystem::create_directories(folder / "sda/sda1");
  const auto abilities = [&](const char* discard, const char* zeroes, const char* of) {
    folder.write("sda/queue/discard_max_bytes", discard + std::string("\n"));
    folder.write("sda/queue/write_zeroes_max_bytes", zeroes + std::string("\n"));
    return device_abilities(folder.path() + of);
  };
  for (const char* of : {"/sda", "/sda/sda1"}) {  // a partition has its disk's queue
    EXPECT_TRUE(abilities("2147450880", "0", of).discards);
    EXPECT_FALSE(abilities("2147450880", "0", of).zeroes_fast);
    EXPECT_FALSE(abilities("0", "65536", of).discards);
    EXPECT_TRUE(abilities("0", "65536", of).zeroes_fast);
  }
  EXPECT_FALSE(abilities("1", "1", "/sdb").discards);
  EXPECT_TRUE(abilities("1", "1", "/sda").is_device);
}

TEST(FindAbilities, KnowsAFileInMemory) {
  EXPECT_TRUE(find_abilities(Fd(::memfd_create("file", MFD_CLOEXEC)), "file")->in_memory);
  EXPECT_FALSE(
      find_abilities(Fd(::open("/proc/version", O_RDONLY | O_CLOEXEC)), "file")->in_memory);
}

class DeviceDiscard : public DiskFixture {};

// BLKDISCARD, an ioctl that the ring does not have. On a regular file it fails with ENOTTY.
TEST_P(DeviceDiscard, ReachesTheKernel) {
  make_file(8192);
  Fd file(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  const auto device = make_host_file(std::move(file), Fd(), {.is_device = true, .discards = true},
                                     true, path_, *io_);
  for (int i = 0; i < 2; ++i) {
    const auto result = run([&] { return device->discard(0, 8192); });
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ENOTTY);
  }
}

INSTANTIATE_TEST_SUITE_P(, DeviceDiscard, testing::Values(Engine::kUring, Engine::kThreaded),
                         engine_name);

}  // namespace
}  // namespace wick::block
