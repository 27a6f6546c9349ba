// guest-images/build when the mirror does not deliver Alpine. Runs a copy of the script with a
// fake curl.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/fakes/shell.h"
#include "tests/fakes/temp_dir.h"

namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using wick::fakes::run_shell;
using wick::fakes::ShellResult;

class GuestImages : public testing::Test {
 protected:
  GuestImages() {
    fs::create_directory(folder_ / "bin");
    fs::copy(fs::path(WICK_SOURCE_DIR) / "guest-images/build", folder_.path());
    fs::copy(fs::path(WICK_SOURCE_DIR) / "guest-images/alpine", folder_ / "alpine");
  }

  // The mirror: what curl does, with its arguments in $@.
  void set_curl(const std::string& script) const {
    fs::permissions(folder_.write("bin/curl", "#!/bin/bash\n" + script), fs::perms::owner_all);
  }
  ShellResult build(const std::string& minirootfs = {}) const {
    return run_shell("cd '" + folder_.path() + "' && PATH=$PWD/bin:$PATH WICK_CACHE=$PWD/cache " +
                     "ALPINE_MINIROOTFS='" + minirootfs + "' ./build alpine");
  }
  // The output of debugfs(8) for the image.
  std::string look(const std::string& request) const {
    return run_shell("debugfs -R '" + request + "' '" + (folder_ / "out/alpine.ext4") + "'").output;
  }
  bool has(const std::string& path) const { return fs::exists(folder_ / path); }

  const wick::fakes::TempDir folder_;
};

TEST_F(GuestImages, ARootOfBusyboxReplacesAnAlpineThatCannotBeFetched) {
  if (std::system("busybox --list 2>/dev/null | grep -qx getty") != 0)
    GTEST_SKIP() << "needs busybox-static";
  set_curl("echo \"$*\" >>args; exit 28");
  const ShellResult built = build();
  EXPECT_EQ(built.status, 0) << built.output;
  EXPECT_THAT(built.output, AllOf(HasSubstr("could not be fetched; get it elsewhere and set "
                                            "ALPINE_MINIROOTFS to it"),
                                  HasSubstr("a small root of Debian's busybox")));
  // The wait for the mirror has a bound.
  EXPECT_THAT(run_shell("cat '" + (folder_ / "args") + "'").output,
              AllOf(HasSubstr("--connect-timeout"), HasSubstr("--speed-time")));
  // The init, and the users who may log in.
  EXPECT_THAT(look("cat /etc/os-release"), HasSubstr("Debian's busybox"));
  EXPECT_THAT(look("stat /bin/init"), HasSubstr("Fast link dest: \"busybox\""));
  EXPECT_THAT(look("stat /sbin"), HasSubstr("Fast link dest: \"bin\""));
  EXPECT_THAT(look("cat /etc/inittab"), HasSubstr("/sbin/console-getty"));
  EXPECT_THAT(look("cat /etc/shadow"),
              AllOf(HasSubstr("root:$6$rounds=1000$"), HasSubstr("student:$6$rounds=1000$")));
  EXPECT_THAT(look("stat /home/student"), HasSubstr("User:  1000   Group:  1000"));
  EXPECT_THAT(look("stat /bin/busybox"), HasSubstr("User:     0   Group:     0"));
  EXPECT_EQ(run_shell("e2fsck -fn '" + (folder_ / "out/alpine.ext4") + "'").status, 0);
}

TEST_F(GuestImages, OtherFilesAreNotTakenForAlpine) {
  if (std::system("busybox --list 2>/dev/null | grep -qx getty") != 0)
    GTEST_SKIP() << "needs busybox-static";
  // The answer of a captive portal.
  set_curl("while [[ $1 != -o ]]; do shift; done; echo '<html>' >\"$2\"");
  fs::create_directory(folder_ / "cache");
  folder_.write("cache/alpine-minirootfs-3.20.3-x86_64.tar.gz", "cut off");
  const ShellResult built = build();
  EXPECT_EQ(built.status, 0) << built.output;
  EXPECT_THAT(built.output, AllOf(HasSubstr("is damaged (its SHA-512 differs); removing it"),
                                  HasSubstr("a small root of Debian's busybox")));
  EXPECT_FALSE(has("cache/alpine-minirootfs-3.20.3-x86_64.tar.gz"));
}

// A user who names a file gets that file or an error: tests of Alpine must not run with busybox.
TEST_F(GuestImages, AFileThatTheUserNamesIsTakenOrRefused) {
  set_curl("echo >asked");
  for (const char* wrong : {"/nonexistent", "/", "/etc/passwd"}) {
    const ShellResult built = build(wrong);
    EXPECT_EQ(built.status, 1) << wrong;
    EXPECT_THAT(built.output, HasSubstr("ALPINE_MINIROOTFS: /"));
  }
  EXPECT_FALSE(has("asked"));
  EXPECT_FALSE(has("out/alpine.ext4"));
}

TEST_F(GuestImages, AlpineIsTakenFromWhereTheUserSays) {
  const char* const given = std::getenv("ALPINE_MINIROOTFS");
  if (given == nullptr) GTEST_SKIP() << "needs Alpine itself: ALPINE_MINIROOTFS";
  set_curl("echo >asked");
  const ShellResult built = build(given);
  EXPECT_EQ(built.status, 0) << built.output;
  EXPECT_THAT(look("cat /etc/os-release"), HasSubstr("Alpine Linux"));
  EXPECT_FALSE(has("asked"));
}

}  // namespace
