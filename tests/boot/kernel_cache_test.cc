#include "boot/kernel_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/boot/kernel_files.h"
#include "tests/fakes/temp_dir.h"

namespace wick::boot {
namespace {

namespace fs = std::filesystem;

class KernelCacheTest : public ::testing::Test {
 protected:
  // Sets the time of the last change, but not that of the inode, which nobody can set.
  void set_age(const std::string& name, time_t seconds) const {
    const timespec times[2] = {{::time(nullptr) - seconds, 0}, {::time(nullptr) - seconds, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, (folder_ / name).c_str(), times, 0), 0);
  }
  // Keeps it as if the file had changed three seconds ago.
  void keep(const KernelCache& cache) const {
    cache.keep(entry(cache), kernel(), unpacked_, later());
  }
  std::string entry(const KernelCache& cache) const { return cache.entry_of(kernel(), later()); }
  std::optional<InputFile> find(const KernelCache& cache) const { return cache.find(entry(cache)); }
  static time_t later() { return ::time(nullptr) + 3; }
  InputFile kernel(const std::string& name = "kernel") const {
    return *InputFile::open(folder_ / name);
  }
  std::string cache_path() const { return folder_ / "cache/kernels"; }
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(cache_path()))
      names.push_back(entry.path().filename());
    return names;
  }
  static Bytes content(const InputFile& file) {
    Bytes bytes(file.size_bytes());
    EXPECT_TRUE(file.read(0, bytes));
    return bytes;
  }

  const fakes::TempDir folder_;
  const std::string written_ = folder_.write("kernel", "compressed");
  const Bytes unpacked_ = to_bytes("the unpacked kernel");
};

TEST_F(KernelCacheTest, FindsWhatItKept) {
  keep(KernelCache::open(cache_path()));
  const auto found = find(KernelCache::open(cache_path()));
  ASSERT_TRUE(found);
  EXPECT_EQ(content(*found), unpacked_);
  struct stat status {};
  ASSERT_EQ(::stat((fs::path(cache_path()) / entries().front()).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(cache_path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST_F(KernelCacheTest, FindsNothingOfAFileThatChanged) {
  const auto cache = KernelCache::open(cache_path());
  keep(cache);
  folder_.write("kernel", "other data");  // of the same size
  EXPECT_FALSE(find(cache));
  set_age("kernel", 100);  // even with its old time
  EXPECT_FALSE(find(cache));
}

TEST_F(KernelCacheTest, KeepsNothingOfAFileThatChangedJustNow) {
  const auto cache = KernelCache::open(cache_path());
  EXPECT_EQ(cache.entry_of(kernel()), "");
  cache.keep("", kernel(), unpacked_);
  EXPECT_THAT(entries(), ::testing::IsEmpty());
}

TEST_F(KernelCacheTest, KeepsNothingOfAFileThatChangesWhileItIsUnpacked) {
  const auto cache = KernelCache::open(cache_path());
  const std::string before = entry(cache);
  folder_.write("kernel", "other data");
  cache.keep(before, kernel(), unpacked_, later());
  EXPECT_THAT(entries(), ::testing::IsEmpty());
}

TEST_F(KernelCacheTest, ForgetsWhatIsRemoved) {
  const auto cache = KernelCache::open(cache_path());
  keep(cache);
  cache.remove(entry(cache));
  EXPECT_FALSE(find(cache));
}

TEST_F(KernelCacheTest, FindsNothingThatIsCutOrAnothersToWrite) {
  const auto cache = KernelCache::open(cache_path());
  keep(cache);
  const fs::path entry = fs::path(cache_path()) / entries().front();
  ASSERT_EQ(::chmod(entry.c_str(), 0666), 0);
  EXPECT_FALSE(find(cache));
  ASSERT_EQ(::chmod(entry.c_str(), 0600), 0);
  EXPECT_TRUE(find(cache));
  const uint64_t size = fs::file_size(entry);
  for (const uint64_t part : {size - 1, size - 16, uint64_t{16}, uint64_t{1}, uint64_t{0}}) {
    fs::resize_file(entry, part);
    EXPECT_FALSE(find(cache)) << part;
  }
  fs::resize_file(entry, size);  // zeroes, as some file systems leave after a crash
  EXPECT_FALSE(find(cache));
}

TEST_F(KernelCacheTest, FollowsNoLinks) {
  auto cache = KernelCache::open(cache_path());
  keep(cache);
  const fs::path entry = fs::path(cache_path()) / entries().front();
  fs::rename(entry, folder_ / "elsewhere");
  fs::create_symlink(folder_ / "elsewhere", entry);
  EXPECT_FALSE(find(cache));

  fs::create_directory_symlink(cache_path(), folder_ / "link");
  cache = KernelCache::open(folder_ / "link");
  keep(cache);
  EXPECT_FALSE(find(cache));
}

TEST_F(KernelCacheTest, DoesNotUseAFolderThatOthersMayWrite) {
  fs::create_directories(cache_path());
  ASSERT_EQ(::chmod(cache_path().c_str(), 0777), 0);
  const auto cache = KernelCache::open(cache_path());
  keep(cache);
  EXPECT_THAT(entries(), ::testing::IsEmpty());
}

TEST_F(KernelCacheTest, CreatesNothingInAnothersFolder) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  fs::create_directory(folder_ / "home");
  ASSERT_EQ(::chown((folder_ / "home").c_str(), 1000, 1000), 0);
  const auto cache = KernelCache::open(folder_ / "home/.cache/wick/kernels");
  keep(cache);
  EXPECT_TRUE(fs::is_empty(folder_ / "home"));
}

TEST_F(KernelCacheTest, RemovesWhatIsOld) {
  const auto cache = KernelCache::open(cache_path());
  for (const char* name : {"unpacked-old", "unpacked-recent", "new-1", "foreign"})
    folder_.write(std::string("cache/kernels/") + name, "x");
  constexpr time_t kDay = 24 * 60 * 60;
  set_age("cache/kernels/unpacked-old", 31 * kDay);
  set_age("cache/kernels/unpacked-recent", 29 * kDay);
  set_age("cache/kernels/new-1", 2 * kDay);
  set_age("cache/kernels/foreign", 99 * kDay);
  keep(cache);
  EXPECT_THAT(entries(), ::testing::UnorderedElementsAre("unpacked-recent", "foreign",
                                                         ::testing::StartsWith("unpacked-")));
}

TEST_F(KernelCacheTest, RemovesTheOldestIfItIsFull) {
  const auto cache = KernelCache::open(cache_path());
  for (const int age : {10, 20, 30}) {
    const std::string name = fmt::format("cache/kernels/unpacked-{}", age);
    folder_.write(name, "");
    fs::resize_file(folder_ / name, 240 * kMiB);  // sparse
    set_age(name, age);
  }
  keep(cache);
  EXPECT_EQ(entries().size(), 3u);
  EXPECT_FALSE(fs::exists(folder_ / "cache/kernels/unpacked-30"));
}

TEST_F(KernelCacheTest, WithoutAFolderKeepsNothing) {
  const KernelCache cache;
  keep(cache);
  EXPECT_FALSE(find(cache));
}

}  // namespace
}  // namespace wick::boot
