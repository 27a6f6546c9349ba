#include "base/cache_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "tests/fakes/files.h"
#include "tests/fakes/temp_dir.h"

namespace wick {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;

TEST(CacheFolder, IsMadeWithItsParentsForThisUserAlone) {
  const fakes::TempDir parent;
  ASSERT_TRUE(CacheFolder::open(parent / "a/b"));
  struct stat status {};
  ASSERT_EQ(::stat((parent / "a/b").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST(CacheFolder, ThatOthersMayWriteToIsRefusedByName) {
  const fakes::TempDir parent;
  const std::string path = parent / "cache";
  fs::create_directory(path);
  ASSERT_EQ(::chmod(path.c_str(), 0777), 0);
  const auto folder = CacheFolder::open(path);
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message(), HasSubstr(path + ": others may write"));
}

TEST(CacheFolder, OpensOnlyRegularFilesOfThisUserAlone) {
  const fakes::TempDir parent;
  const auto folder = CacheFolder::open(parent / "cache");
  ASSERT_TRUE(folder);
  const std::string file = parent.write("cache/file", "x");
  EXPECT_TRUE(folder->open_file("file").valid());
  fs::create_symlink(file, parent / "cache/link");
  EXPECT_FALSE(folder->open_file("link").valid());
  ASSERT_EQ(::chmod(file.c_str(), 0622), 0);
  EXPECT_FALSE(folder->open_file("file").valid());
  fs::create_directory(parent / "cache/folder");
  EXPECT_FALSE(folder->open_file("folder").valid());
}

TEST(CacheFolder, APublishedFileReplacesTheOneWithItsName) {
  const fakes::TempDir parent;
  const auto folder = CacheFolder::open(parent / "cache");
  ASSERT_TRUE(folder);
  parent.write("cache/file", "old");
  const auto created = folder->create_file();
  ASSERT_TRUE(created);
  ASSERT_TRUE(folder->publish(created->name, "file"));
  EXPECT_EQ(fakes::read_file(parent / "cache/file"), "");
  EXPECT_FALSE(fs::exists(parent / ("cache/" + created->name)));
}

TEST(CacheFolderPath, IsTheUsers) {
  EXPECT_EQ(cache_folder_path("a", "/cache", "/home/x"), "/cache/wick/a");
  EXPECT_EQ(cache_folder_path("a", "cache", "/home/x"), "/home/x/.cache/wick/a");
  EXPECT_EQ(cache_folder_path("a", nullptr, "/home/x"), "/home/x/.cache/wick/a");
  EXPECT_EQ(cache_folder_path("a", nullptr, nullptr), "");
}

}  // namespace
}  // namespace wick
