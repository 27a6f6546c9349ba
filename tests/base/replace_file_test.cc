#include "base/replace_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>

#include "base/fd.h"
#include "tests/fakes/files.h"
#include "tests/fakes/temp_dir.h"

namespace wick {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

namespace fs = std::filesystem;

// The files of this process may not grow beyond `bytes`: a write(2) across the limit writes up to
// it and returns no error, and the next one fails with EFBIG.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_ = SIG_DFL;
};

class ReplaceFile : public ::testing::Test {
 protected:
  size_t files() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(temp_.path()), fs::directory_iterator()));
  }

  const fakes::TempDir temp_{fs::temp_directory_path()};
  const std::string path_ = temp_ / "file";
};

TEST_F(ReplaceFile, MakesAFileThatOnlyItsOwnerMayRead) {
  ASSERT_TRUE(replace_file(path_, "one"));
  EXPECT_EQ(fakes::read_file(path_), "one");
  EXPECT_EQ(fs::status(path_).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(files(), 1u);
}

TEST_F(ReplaceFile, GivesTheFileTheModeThatIsWanted) {
  ASSERT_TRUE(replace_file(path_, "", {.mode = 0400}));
  EXPECT_EQ(fs::status(path_).permissions(), fs::perms::owner_read);
}

TEST_F(ReplaceFile, LeavesTheOldContentToThoseWhoReadIt) {
  ASSERT_TRUE(replace_file(path_, "old and longer"));
  const Fd reader(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(replace_file(path_, "new", {.sync = false}));
  char text[32] = {};
  EXPECT_EQ(::read(reader.get(), text, sizeof(text)), 14);
  EXPECT_STREQ(text, "old and longer");
  EXPECT_EQ(fakes::read_file(path_), "new");
}

TEST_F(ReplaceFile, SaysWhyOnlyAPartCouldBeWrittenAndKeepsTheOldFile) {
  ASSERT_TRUE(replace_file(path_, "old"));
  errno = ENOENT;  // of something earlier: a short write does not set it
  Result<void> replaced;
  {
    const FileSizeLimit limit(4096);
    replaced = replace_file(path_, std::string(10'000, 'x'));
  }
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().code, EFBIG);
  EXPECT_EQ(replaced.error().message(), path_ + ": cannot write: File too large");
  EXPECT_EQ(fakes::read_file(path_), "old");
  EXPECT_EQ(files(), 1u) << "the new file is removed";
}

TEST_F(ReplaceFile, NamesTheFileInErrors) {
  const auto none = replace_file(temp_ / "none/file", "x");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(),
              AllOf(HasSubstr("none/file: cannot create"), HasSubstr("No such file")));
  fs::create_directory(path_);
  const auto folder = replace_file(path_, "x");
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, EISDIR);
  EXPECT_EQ(files(), 1u);
}

TEST_F(ReplaceFile, DoesNotFollowALink) {
  fakes::write_file(temp_ / "other", "other");
  fs::create_symlink("other", path_);
  ASSERT_TRUE(replace_file(path_, "new"));
  EXPECT_FALSE(fs::is_symlink(path_));
  EXPECT_EQ(fakes::read_file(temp_ / "other"), "other");
}

TEST_F(ReplaceFile, WritesIntoAnOpenFolder) {
  const Fd folder(::open(temp_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(replace_file_at(folder.get(), "file", "text"));
  EXPECT_EQ(fakes::read_file(path_), "text");
  const auto failed = replace_file_at(folder.get(), "none/file", "text");
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message(), Not(HasSubstr(temp_.path())));
}

}  // namespace
}  // namespace wick
