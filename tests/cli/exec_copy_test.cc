// What comes out of a guest in the end, and what a hostile one may not do with it.
#include "cli/exec_copy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ExecCopyTest : public testing::Test {
 protected:
  // As the guest does.
  static std::string made_by_guest(const ExecCopy& copy) {
    return copy.folder() + '/' + ExecCopy::kName;
  }
  const fakes::TempDir dir_;
};

TEST_F(ExecCopyTest, ReplacesAFile) {
  fakes::write_file(dir_ / "result", "old");
  {
    const auto copy = ExecCopy::create({.guest = "/tmp/x", .host = dir_ / "result"}).value();
    EXPECT_FALSE(copy.is_there());
    fakes::write_file(made_by_guest(copy), "new");
    EXPECT_TRUE(copy.is_there());
    EXPECT_TRUE(copy.publish());
  }
  EXPECT_EQ(fakes::read_file(dir_ / "result"), "new");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_.path()), {}), 1);
}

// As root it would replace /dev/null. A link in /tmp may be another user's.
TEST_F(ExecCopyTest, ReplacesNoDeviceAndNoLink) {
  ASSERT_EQ(::mkfifo((dir_ / "fifo").c_str(), 0600), 0);
  fakes::write_file(dir_ / "file", "old");
  fs::create_symlink("file", dir_ / "link");
  fs::create_symlink("none", dir_ / "dangling");
  for (const std::string& path : {std::string("/dev/null"), dir_ / "fifo"})
    EXPECT_THAT(ExecCopy::create({.guest = "/tmp/x", .host = path}).error().message(),
                HasSubstr(path + ": is not a regular file"));
  for (const std::string& path : {dir_ / "link", dir_ / "dangling"})
    EXPECT_THAT(ExecCopy::create({.guest = "/tmp/x", .host = path}).error().message(),
                HasSubstr(path + ": is a symbolic link"));
}

TEST_F(ExecCopyTest, GoesIntoAFolderThatIsThere) {
  const auto copy = ExecCopy::create({.guest = "logs/x/", .host = dir_.path()}).value();
  fs::create_directory(made_by_guest(copy));
  fakes::write_file(made_by_guest(copy) + "/file", "text");
  EXPECT_TRUE(copy.publish());
  EXPECT_EQ(fakes::read_file(dir_ / "x/file"), "text");
}

TEST_F(ExecCopyTest, LeavesNothingIfTheGuestMadeNothing) {
  ExecCopy::create({.guest = "/tmp/x", .host = dir_ / "result"}).value();
  EXPECT_TRUE(fs::is_empty(dir_.path()));
}

TEST_F(ExecCopyTest, RefusesALinkOfTheGuest) {
  fakes::write_file(dir_ / "secret", "secret");
  const auto copy = ExecCopy::create({.guest = "/tmp/x", .host = dir_ / "result"}).value();
  fs::create_symlink(dir_ / "secret", made_by_guest(copy));
  const auto published = copy.publish();
  ASSERT_FALSE(published);
  EXPECT_THAT(published.error().message(), HasSubstr("neither a file nor a folder"));
  EXPECT_FALSE(fs::exists(fs::symlink_status(dir_ / "result")));
}

TEST_F(ExecCopyTest, KeepsAFolderThatHasFiles) {
  fs::create_directories(dir_ / "host/x");
  fakes::write_file(dir_ / "host/x/file", "old");
  const auto copy = ExecCopy::create({.guest = "/tmp/x", .host = dir_ / "host"}).value();
  fs::create_directory(made_by_guest(copy));
  const auto published = copy.publish();
  ASSERT_FALSE(published);
  EXPECT_THAT(published.error().message(), HasSubstr("remove what is there"));
  EXPECT_EQ(fakes::read_file(dir_ / "host/x/file"), "old");
}

TEST_F(ExecCopyTest, NamesATargetThatCannotBeWritten) {
  const auto copy = ExecCopy::create({.guest = "/tmp/x", .host = dir_ / "no/such/file"});
  ASSERT_FALSE(copy);
  EXPECT_THAT(copy.error().message(), HasSubstr("no/such/file: cannot be written"));
}

}  // namespace
}  // namespace wick::cli
