#include "cli/download_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "boot/sha256.h"
#include "tests/fakes/http_server.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

namespace fs = std::filesystem;

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class DownloadCacheTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ::setenv("no_proxy", "127.0.0.1", 1); }

  // With the checksum of `expected`; empty: the tree has no checksum.
  Result<std::string> fetch(const std::string& expected = "") {
    const std::string sha256 = expected.empty() ? "" : boot::sha256_of(expected);
    const auto check = [&](const std::string& got) -> Result<void> {
      if (!sha256.empty() && got != sha256) return fail("wrong checksum");
      return {};
    };
    return TRY(DownloadCache::open(path()))
        .fetch(downloader_, server_.url("/linux"), 1 << 20, sha256, check);
  }
  std::string content(const Result<std::string>& fetched) const {
    return fetched ? fakes::read_file(*fetched) : fetched.error().message();
  }
  std::string path() const { return folder_ / "cache/location"; }
  std::string entry() const { return DownloadCache::entry_of(server_.url("/linux")); }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& file : fs::directory_iterator(path())) found.push_back(file.path().filename());
    return found;
  }

  const fakes::TempDir folder_;
  fakes::HttpServer server_;
  Downloader downloader_ = Downloader::create().value();
};

TEST_F(DownloadCacheTest, KeepsAFileForThisUserAlone) {
  server_.put("/linux", "kernel");
  const auto fetched = fetch();
  ASSERT_TRUE(fetched) << fetched.error().message();
  EXPECT_EQ(*fetched, path() + "/" + entry());
  EXPECT_EQ(content(fetched), "kernel");
  EXPECT_THAT(names(), UnorderedElementsAre(entry(), entry() + ".about"));
  struct stat status {};
  ASSERT_EQ(::stat(fetched->c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST_F(DownloadCacheTest, AsksNobodyForAFileWithTheExpectedChecksum) {
  server_.put("/linux", "kernel");
  ASSERT_TRUE(fetch());
  (void)server_.take_requests();
  EXPECT_EQ(content(fetch("kernel")), "kernel");
  EXPECT_THAT(server_.take_requests(), IsEmpty());
}

TEST_F(DownloadCacheTest, ReplacesAFileWithAnotherChecksum) {
  server_.put("/linux", "kernel", "ETag: \"1\"\r\n");
  ASSERT_TRUE(fetch());
  server_.put("/linux", "newer", "ETag: \"1\"\r\n");  // the checksum decides, not the ETag
  EXPECT_EQ(content(fetch("newer")), "newer");
  EXPECT_THAT(names(), SizeIs(2));
}

TEST_F(DownloadCacheTest, WithoutAChecksumAsksTheServer) {
  server_.put("/linux", "kernel", "ETag: \"1\"\r\n");
  ASSERT_TRUE(fetch());
  EXPECT_EQ(content(fetch()), "kernel");
  EXPECT_THAT(server_.last_request(), HasSubstr("If-None-Match: \"1\"\r\n"));
  EXPECT_THAT(names(), SizeIs(2));
  server_.put("/linux", "newer", "ETag: \"2\"\r\n");
  EXPECT_EQ(content(fetch()), "newer");
  EXPECT_EQ(content(fetch()), "newer");
  EXPECT_THAT(server_.last_request(), HasSubstr("If-None-Match: \"2\"\r\n"));
}

TEST_F(DownloadCacheTest, WithoutChecksumAndValidatorsDownloadsAgain) {
  server_.put("/linux", "kernel");
  ASSERT_TRUE(fetch());
  server_.put("/linux", "newer");
  EXPECT_EQ(content(fetch()), "newer");
}

TEST_F(DownloadCacheTest, DoesNotUseADamagedFile) {
  server_.put("/linux", "kernel", "ETag: \"1\"\r\n");
  const auto fetched = fetch();
  ASSERT_TRUE(fetched);
  fakes::write_file(*fetched, "kerne!");
  EXPECT_EQ(content(fetch()), "kernel");
  EXPECT_THAT(server_.last_request(), ::testing::Not(HasSubstr("If-None-Match")));
  fakes::write_file(*fetched, "kerne!");
  EXPECT_EQ(content(fetch("kernel")), "kernel");
  fakes::write_file(*fetched + ".about", std::string(100'000, '\n'));
  EXPECT_EQ(content(fetch()), "kernel");
}

TEST_F(DownloadCacheTest, DoesNotKeepAFileWithAWrongChecksum) {
  server_.put("/linux", "kernel");
  EXPECT_EQ(content(fetch("other")), "wrong checksum");
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(DownloadCacheTest, KeepsTheOldFileIfTheNewOneFails) {
  server_.put("/linux", "kernel");
  ASSERT_TRUE(fetch());
  server_.put_raw("/linux", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n", "cut off");
  EXPECT_FALSE(fetch());
  EXPECT_THAT(names(), UnorderedElementsAre(entry(), entry() + ".about"));
  EXPECT_EQ(content(fetch("kernel")), "kernel");
}

TEST_F(DownloadCacheTest, UsesNoFileThatOthersMayHaveWritten) {
  server_.put("/linux", "kernel");
  const auto fetched = fetch();
  ASSERT_TRUE(fetched);
  ASSERT_EQ(::chmod(fetched->c_str(), 0666), 0);
  (void)server_.take_requests();
  EXPECT_EQ(content(fetch("kernel")), "kernel");
  EXPECT_THAT(server_.take_requests(), ElementsAre("GET /linux"));
}

TEST_F(DownloadCacheTest, FollowsNoSymbolicLink) {
  server_.put("/linux", "kernel");
  fs::create_directories(path());
  ASSERT_EQ(::chmod(path().c_str(), 0700), 0);
  folder_.write("other", "kernel");
  fs::create_symlink(folder_ / "other", path() + "/" + entry());
  EXPECT_EQ(content(fetch("kernel")), "kernel");
  EXPECT_FALSE(fs::is_symlink(path() + "/" + entry()));
}

TEST_F(DownloadCacheTest, IsNotInAFolderThatOthersMayWriteTo) {
  fs::create_directories(path());
  ASSERT_EQ(::chmod(path().c_str(), 0777), 0);
  EXPECT_THAT(content(fetch()), HasSubstr("others may write to this folder"));
  EXPECT_THAT(DownloadCache::open("").error().message(), HasSubstr("set HOME"));
}

TEST_F(DownloadCacheTest, RemovesOldFiles) {
  const auto old = [&](const std::string& name, time_t days) {
    fakes::write_file(path() + "/" + name, "x");
    const timespec time{::time(nullptr) - days * 24 * 60 * 60, 0};
    const timespec times[2] = {time, time};
    ASSERT_EQ(::utimensat(AT_FDCWD, (path() + "/" + name).c_str(), times, 0), 0);
  };
  server_.put("/linux", "kernel");
  ASSERT_TRUE(fetch());
  old("file-unused", 31);
  old("file-used", 29);
  old("new-killed", 2);
  old("new-running", 0);
  old("of-somebody-else", 100);
  server_.put("/linux", "newer");
  ASSERT_TRUE(fetch());
  EXPECT_THAT(names(), UnorderedElementsAre(entry(), entry() + ".about", "file-used", "new-running",
                                            "of-somebody-else"));
}

TEST_F(DownloadCacheTest, RemovesTheOldestBeyondItsSize) {
  const auto sparse = [&](const std::string& name, time_t age_s) {
    fakes::write_file(path() + "/" + name, "");
    ASSERT_EQ(::truncate((path() + "/" + name).c_str(), off_t{3} << 30), 0);
    const timespec time{::time(nullptr) - age_s, 0};
    const timespec times[2] = {time, time};
    ASSERT_EQ(::utimensat(AT_FDCWD, (path() + "/" + name).c_str(), times, 0), 0);
  };
  server_.put("/linux", "kernel");
  ASSERT_TRUE(fetch());
  sparse("file-older", 200);
  sparse("file-newer", 100);
  server_.put("/linux", "newer");
  ASSERT_TRUE(fetch());
  EXPECT_THAT(names(), UnorderedElementsAre(entry(), entry() + ".about", "file-newer"));
}

TEST(DownloadCacheEntry, IsAPlainNameOfEachUrl) {
  const std::string name = DownloadCache::entry_of("http://h/a/..%2f\x1b" + std::string(500, 'x'));
  EXPECT_LT(name.size(), 120u);
  EXPECT_THAT(name, ::testing::MatchesRegex("file-[0-9a-f]*-[A-Za-z0-9._-]*"));
  EXPECT_THAT(DownloadCache::entry_of("http://h/a/linux"), EndsWith("-linux"));
  EXPECT_NE(DownloadCache::entry_of("http://h/a/linux"),
            DownloadCache::entry_of("http://h/b/linux"));
}

}  // namespace
}  // namespace wick::cli
