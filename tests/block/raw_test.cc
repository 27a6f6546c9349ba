#include "block/raw.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/block/raw_fixture.h"

namespace wick::block {
namespace {

using testing::HasSubstr;

// --- reading and writing ---

TEST_P(RawDisk, ReadsAndWritesAtAnyAlignment) {
  make_file(kMiB);
  ASSERT_TRUE(open(kRaw));
  exercise(kMiB, 1, false);
}

// PITFALLS 18: requests that O_DIRECT does not support are served, too.
TEST_P(RawDisk, ReadsAndWritesAtAnyAlignmentWithoutThePageCache) {
  make_file(kMiB);
  if (!open_direct()) GTEST_SKIP() << directory_.path() << " does not support O_DIRECT";
  exercise(kMiB, 2, true);
}

TEST_P(RawDisk, DoesNothingWithoutBytes) {
  make_file(4096);
  ASSERT_TRUE(open(kRaw));
  for (const uint64_t offset : std::to_array<uint64_t>({0, 1, 4096})) {
    EXPECT_TRUE(read(offset, std::vector<iovec>{}));
    EXPECT_TRUE(write(offset, std::vector<iovec>{}));
    EXPECT_TRUE(discard(offset, 0));
    EXPECT_TRUE(write_zeroes(offset, 0, true));
  }
  EXPECT_TRUE(flush());
}

TEST_P(RawDisk, TakesEmptyBuffersAmongOthers) {
  make_file(4096);
  ASSERT_TRUE(open(kRaw));
  const auto data = pattern(1024, 1);
  const auto halves =
      std::array{to_iovec(std::span(data).first(512)), to_iovec(std::span(data).subspan(512))};
  const iovec nothing{nullptr, 0};
  ASSERT_TRUE(write(512, {nothing, halves[0], nothing, halves[1], nothing}));
  EXPECT_EQ(read_bytes(512, 1024), data);
}

TEST_P(RawDisk, RefusesWhatIsNotWhollyInside) {
  make_file(kMiB);
  ASSERT_TRUE(open(kRaw));
  std::vector<std::byte> bytes(1024);
  struct Outside {
    uint64_t offset;
    size_t length;
  };
  for (const auto& [offset, length] :
       {Outside{kMiB, 1}, Outside{kMiB - 1, 2}, Outside{kMiB - 512, 1024}, Outside{~0ull, 1},
        Outside{~0ull - 511, 1024}, Outside{1ull << 63, 512}}) {
    const auto part = std::span(bytes).first(length);
    for (const auto& result :
         {read(offset, {to_iovec(part)}), write(offset, part), discard(offset, length),
          write_zeroes(offset, length, false), write_zeroes(offset, length, true)}) {
      ASSERT_FALSE(result) << offset;
      EXPECT_EQ(result.error().code, EINVAL);
    }
  }
  EXPECT_EQ(discard(512, ~0ull).error().code, EINVAL);
  EXPECT_EQ(write_zeroes(512, ~0ull - 100, true).error().code, EINVAL);
  EXPECT_TRUE(all_zero(file_content()));
  EXPECT_EQ(file_content().size(), kMiB);
}

TEST_P(RawDisk, NamesTheDiskAndThePlaceInAnError) {
  make_file(kMiB);
  Fd write_only(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
  disk_ =
      open_raw(open_host_file(std::move(write_only), path_, Cache::kWriteback, false, *io_).value(),
               {})
          .value();
  std::vector<std::byte> bytes(512);
  const auto result = read(1024, {to_iovec(bytes)});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, EBADF);
  EXPECT_THAT(result.error().message(), testing::AllOf(HasSubstr(path_), HasSubstr("1024")));
}

// --- a file whose size is not a multiple of 512 ---

TEST_P(RawDisk, EndsInZeroesAfterTheEndOfTheFile) {
  make_file(path_, pattern(1000, 3));
  for (const Cache cache : {Cache::kWriteback, Cache::kNone}) {
    if (cache == Cache::kNone && !open_direct()) continue;
    ASSERT_TRUE(open({.format = Format::kRaw, .cache = cache}));
    EXPECT_EQ(disk_->size_bytes(), 1024u);
    auto expected = pattern(1000, 3);
    expected.resize(1024);
    EXPECT_EQ(read_bytes(0, 1024), expected);
    EXPECT_TRUE(all_zero(read_bytes(1000, 24)));
    EXPECT_TRUE(all_zero(read_bytes(1010, 3)));
  }
  EXPECT_EQ(file_content().size(), 1000u);
}

TEST_P(RawDisk, KeepsWhatIsWrittenIntoItsLastSector) {
  make_file(1000);
  ASSERT_TRUE(open(kRaw));
  const auto data = pattern(512, 4);
  ASSERT_TRUE(write(512, data));
  EXPECT_EQ(read_bytes(512, 512), data);
  EXPECT_EQ(file_content().size(), 1024u);
}

TEST_P(RawDisk, ReadsZeroesWhereTheFileWasCutUnderIt) {
  make_file(path_, pattern(8192, 5));
  ASSERT_TRUE(open(kRaw));
  ASSERT_EQ(::truncate(path_.c_str(), 100), 0);
  auto expected = pattern(8192, 5);
  expected.resize(100);
  expected.resize(8192);
  EXPECT_EQ(read_bytes(0, 8192), expected);
}

// --- a host without space ---

// As on a nearly full disk: the first part of a write succeeds, the rest fails.
TEST_P(RawDisk, ReportsWhatTheHostCouldNotStoreAndGoesOn) {
  make_file(kMiB);
  ASSERT_TRUE(open(kRaw));
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit unlimited{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &unlimited), 0);
  const rlimit limited{.rlim_cur = 65536, .rlim_max = unlimited.rlim_max};
  const auto data = pattern(8192, 6);

  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  const auto beyond = write(131072, data);
  const auto across = write(65536 - 4096, data);
  const auto within = write(0, data);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &unlimited), 0);
  std::signal(SIGXFSZ, before);

  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().code, EFBIG);
  ASSERT_FALSE(across);
  EXPECT_EQ(across.error().code, EFBIG);
  EXPECT_TRUE(within);
  EXPECT_EQ(read_bytes(0, 8192), data);
  ASSERT_TRUE(write(131072, data));
  EXPECT_EQ(read_bytes(131072, 8192), data);
}

// A file system of 256 KiB in its own mount namespace. The test runs itself again there.
TEST_P(RawDisk, ReportsAFullHostDiskAndGoesOn) {
  constexpr const char* kInside = "WICK_TEST_FULL_DISK";
  const char* full = std::getenv(kInside);
  if (full == nullptr) {
    if (std::system("unshare -Urm mount -t tmpfs tmpfs /mnt 2>/dev/null") != 0)
      GTEST_SKIP() << "no user namespaces here";
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    const std::string command = fmt::format(
        "unshare -Urm sh -c 'mount -t tmpfs -o size=256k tmpfs /mnt && {}=/mnt {} "
        "--gtest_filter={}.{}' >/dev/null",
        kInside, std::filesystem::read_symlink("/proc/self/exe").string(), test->test_suite_name(),
        test->name());
    EXPECT_EQ(std::system(command.c_str()), 0);
    return;
  }
  path_ = std::string(full) + "/disk.img";
  make_file(kMiB);
  ASSERT_TRUE(open(kRaw));
  const auto data = pattern(65536, 1);
  int stored = 0;
  Result<void> result;
  while ((result = write(static_cast<uint64_t>(stored) * 65536, data))) ++stored;
  EXPECT_EQ(result.error().code, ENOSPC);
  EXPECT_EQ(stored, 4);
  EXPECT_EQ(write_zeroes(8 * 65536, 65536, false).error().code, ENOSPC);
  EXPECT_EQ(read_bytes(0, 65536), data);
  EXPECT_TRUE(flush());
  // Room again.
  ASSERT_TRUE(discard(0, 65536));
  EXPECT_TRUE(write(8 * 65536, data));
  EXPECT_EQ(read_bytes(8 * 65536, 65536), data);
}

// --- discard and zeroes ---

TEST_P(RawDisk, DiscardGivesSpaceBack) {
  make_file(path_, pattern(kMiB, 7));
  ASSERT_TRUE(open(kRaw));
  if (!disk_->can_discard()) GTEST_SKIP() << directory_.path() << " cannot punch holes";
  ASSERT_TRUE(flush());
  const uint64_t before = allocated_bytes();
  ASSERT_TRUE(discard(kMiB / 2, kMiB / 2));
  EXPECT_LE(allocated_bytes() + kMiB / 2, before);
  EXPECT_EQ(std::filesystem::file_size(path_), kMiB);
  const auto data = pattern(kMiB, 7);
  EXPECT_TRUE(std::ranges::equal(read_bytes(0, kMiB / 2), std::span(data).first(kMiB / 2)));
}

TEST_P(RawDisk, WritesZeroesKeepingOrFreeingSpace) {
  make_file(path_, pattern(kMiB, 8));
  ASSERT_TRUE(open(kRaw));
  ASSERT_TRUE(flush());
  const uint64_t before = allocated_bytes();
  ASSERT_TRUE(write_zeroes(1000, 300'000, false));
  EXPECT_GE(allocated_bytes(), before);
  ASSERT_TRUE(write_zeroes(500'000, 500'000, true));
  if (disk_->can_discard()) {
    EXPECT_LT(allocated_bytes(), before);
  }
  auto expected = pattern(kMiB, 8);
  std::fill_n(expected.begin() + 1000, 300'000, std::byte{0});
  std::fill_n(expected.begin() + 500'000, 500'000, std::byte{0});
  EXPECT_EQ(read_bytes(0, kMiB), expected);
  EXPECT_EQ(std::filesystem::file_size(path_), kMiB);
}

// tmpfs has no FALLOC_FL_ZERO_RANGE.
TEST_P(RawDisk, WritesZeroesByHandWhereTheFileSystemCannot) {
  std::string path = "/dev/shm/wick-zeroes-XXXXXX";
  const Fd file(::mkostemp(path.data(), O_CLOEXEC));
  if (!file.valid()) GTEST_SKIP() << "no tmpfs at /dev/shm";
  constexpr uint64_t kBytes = 3 * kMiB;
  const auto data = pattern(kBytes, 9);
  make_file(path, data);
  ASSERT_TRUE(open(path, kRaw));
  ::unlink(path.c_str());
  ASSERT_TRUE(write_zeroes(777, kBytes - 1000, false));
  auto expected = data;
  std::fill_n(expected.begin() + 777, kBytes - 1000, std::byte{0});
  EXPECT_EQ(read_bytes(0, kBytes), expected);
}

// --- read only ---

TEST_P(RawDisk, RefusesEveryChangeOfAReadOnlyDisk) {
  const auto data = pattern(kMiB, 10);
  make_file(path_, data);
  ASSERT_TRUE(open({.format = Format::kRaw, .read_only = true}));
  EXPECT_TRUE(disk_->read_only());
  EXPECT_FALSE(disk_->can_discard());
  for (const auto& result : {write(0, std::span(data).first(512)), discard(0, 512),
                             write_zeroes(0, 512, true), write_zeroes(0, 512, false)}) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, EROFS);
  }
  EXPECT_TRUE(flush());
  EXPECT_EQ(read_bytes(0, kMiB), data);
  EXPECT_EQ(file_content(), data);
}

TEST_P(RawDisk, OpensAFileReadOnlyThatCannotBeWritten) {
  make_file(path_, pattern(4096, 1));
  ASSERT_EQ(::chmod(path_.c_str(), 0444), 0);
  ASSERT_TRUE(open({.format = Format::kRaw, .read_only = true}));
  EXPECT_EQ(read_bytes(0, 4096), pattern(4096, 1));
}

// --- flush ---

TEST_P(RawDisk, FlushReportsErrorsUnlessCacheIsUnsafe) {
  // A descriptor that cannot be synchronised.
  const auto flush_of = [&](Cache cache) {
    std::array<int, 2> ends;
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const Fd reader(ends[0]);
    make_file(4096);
    Fd file(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    const int number = file.get();
    disk_ =
        open_raw(open_host_file(std::move(file), path_, cache, false, *io_).value(), {}).value();
    EXPECT_EQ(::dup3(ends[1], number, O_CLOEXEC), number);
    ::close(ends[1]);
    return flush();
  };
  EXPECT_FALSE(flush_of(Cache::kWriteback));
  EXPECT_TRUE(flush_of(Cache::kUnsafe));
}

// The host drops data that it could not write, and reports that only once.
TEST_P(RawDisk, NoFlushSucceedsAfterOneThatFailed) {
  make_file(4096);
  Fd file(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  const int number = file.get();
  const Fd kept(::fcntl(number, F_DUPFD_CLOEXEC, 0));
  disk_ =
      open_raw(open_host_file(std::move(file), path_, Cache::kWriteback, false, *io_).value(), {})
          .value();
  ASSERT_TRUE(flush());
  std::array<int, 2> ends;  // cannot be synchronised
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Fd reader(ends[0]), writer(ends[1]);
  ASSERT_EQ(::dup3(writer.get(), number, O_CLOEXEC), number);
  ASSERT_FALSE(flush());
  ASSERT_EQ(::dup3(kept.get(), number, O_CLOEXEC), number);
  const auto again = flush();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, EINVAL);
  EXPECT_THAT(again.error().message(), testing::AllOf(HasSubstr(path_), HasSubstr("lost data")));
}

// --- many at once ---

TEST_P(RawDisk, CarriesThousandsOfRequestsAtOnce) {
  constexpr size_t kRequests = 4000;
  constexpr size_t kBytes = 512;
  make_file(kRequests * kBytes);
  ASSERT_TRUE(open(kRaw));
  const auto data = pattern(kRequests * kBytes, 11);
  std::vector<std::byte> back(data.size());
  std::vector<iovec> sources;
  std::vector<iovec> targets;
  for (size_t i = 0; i < kRequests; ++i) {
    sources.push_back(to_iovec(std::span(data).subspan(i * kBytes, kBytes)));
    targets.push_back(to_iovec(std::span(back).subspan(i * kBytes, kBytes)));
  }
  std::atomic<size_t> finished = 0;
  std::atomic<size_t> failed = 0;
  const auto one = [](Task<Result<void>> request, std::atomic<size_t>& done,
                      std::atomic<size_t>& bad) -> Task<void> {
    if (!co_await request) ++bad;
    ++done;
  };
  const auto all = [&](auto make) {
    finished = 0;
    loop().post([&] {
      for (size_t i = 0; i < kRequests; ++i) spawn(one(make(i), finished, failed));
      EXPECT_LT(finished, kRequests);  // the loop gets to its other work
    });
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (finished < kRequests && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_EQ(finished, kRequests);
    EXPECT_EQ(failed, 0u);
  };
  all([&](size_t i) { return disk_->write(i * kBytes, {&sources[i], 1}); });
  all([&](size_t i) { return disk_->read(i * kBytes, {&targets[i], 1}); });
  EXPECT_EQ(back, data);
}

// --- block devices ---

TEST_P(RawDisk, ServesABlockDevice) {
  make_file(path_, pattern(kMiB, 12));
  const std::string set_up = fmt::format("losetup -f --show {} 2>/dev/null", path_);
  const auto [status, output] = fakes::run_shell(set_up);
  if (status != 0) GTEST_SKIP() << "no loop devices here";
  const std::string device = output.substr(0, output.find('\n'));
  {
    ASSERT_TRUE(open(device, kRaw));
    EXPECT_EQ(disk_->size_bytes(), kMiB);
    EXPECT_EQ(read_bytes(0, kMiB), pattern(kMiB, 12));
    const auto data = pattern(3000, 13);
    EXPECT_TRUE(write(777, data));
    EXPECT_EQ(read_bytes(777, 3000), data);
    EXPECT_TRUE(write_zeroes(4096, 8192, false));
    EXPECT_TRUE(all_zero(read_bytes(4096, 8192)));
    EXPECT_TRUE(write_zeroes(100'000, 777, true));
    EXPECT_TRUE(all_zero(read_bytes(100'000, 777)));
    EXPECT_TRUE(discard(65536, 65536));
    EXPECT_TRUE(flush());
    // The device shrinks, as a logical volume can.
    EXPECT_EQ(::truncate(path_.c_str(), 4096), 0);
    EXPECT_EQ(std::system(fmt::format("losetup -c {}", device).c_str()), 0);
    EXPECT_TRUE(all_zero(read_bytes(8192, 512)));
    disk_.reset();
  }
  EXPECT_EQ(std::system(fmt::format("losetup -d {}", device).c_str()), 0);
}

INSTANTIATE_TEST_SUITE_P(, RawDisk, testing::Values(Engine::kUring, Engine::kThreaded),
                         engine_name);

}  // namespace
}  // namespace wick::block
