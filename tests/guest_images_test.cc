// guest-images/build when the mirror does not deliver Alpine. Runs a copy of the script with a
// fake curl.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct Outcome {
  int status = -1;
  std::string text;  // stdout and stderr
};

class GuestImages : public testing::Test {
 protected:
  GuestImages() {
    std::string name = fs::current_path() / "guest-images-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    fs::create_directory(folder_ / "bin");
    fs::copy(fs::path(WICK_SOURCE_DIR) / "guest-images/build", folder_);
    fs::copy(fs::path(WICK_SOURCE_DIR) / "guest-images/alpine", folder_ / "alpine");
  }
  ~GuestImages() override { fs::remove_all(folder_); }

  static Outcome run(const std::string& command) {
    Outcome outcome;
    FILE* const pipe = ::popen(("exec 2>&1; " + command).c_str(), "r");
    std::array<char, 4096> part{};
    while (const size_t got = std::fread(part.data(), 1, part.size(), pipe))
      outcome.text.append(part.data(), got);
    const int status = ::pclose(pipe);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return outcome;
  }
  // Sets the script that runs as curl, with curl's arguments in $@.
  void set_curl(const std::string& script) const {
    std::ofstream(folder_ / "bin/curl") << "#!/bin/bash\n" << script;
    fs::permissions(folder_ / "bin/curl", fs::perms::owner_all);
  }
  Outcome build(const std::string& minirootfs = {}) const {
    return run("cd '" + folder_.string() + "' && PATH=$PWD/bin:$PATH WICK_CACHE=$PWD/cache " +
               "ALPINE_MINIROOTFS='" + minirootfs + "' ./build alpine");
  }
  // The output of debugfs(8) for the image.
  std::string look(const std::string& request) const {
    return run("debugfs -R '" + request + "' '" + (folder_ / "out/alpine.ext4").string() + "'")
        .text;
  }
  bool has(const std::string& path) const { return fs::exists(folder_ / path); }

  fs::path folder_;
};

TEST_F(GuestImages, ARootOfBusyboxReplacesAnAlpineThatCannotBeFetched) {
  if (std::system("busybox --list 2>/dev/null | grep -qx getty") != 0)
    GTEST_SKIP() << "needs busybox-static";
  set_curl("echo \"$*\" >>args; exit 28");
  const Outcome built = build();
  EXPECT_EQ(built.status, 0) << built.text;
  EXPECT_THAT(built.text, AllOf(HasSubstr("could not be fetched; get it elsewhere and set "
                                          "ALPINE_MINIROOTFS to it"),
                                HasSubstr("a small root of Debian's busybox")));
  // The wait for the mirror is bounded.
  EXPECT_THAT(run("cat '" + (folder_ / "args").string() + "'").text,
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
  EXPECT_EQ(run("e2fsck -fn '" + (folder_ / "out/alpine.ext4").string() + "'").status, 0);
}

TEST_F(GuestImages, OtherFilesAreNotTakenForAlpine) {
  if (std::system("busybox --list 2>/dev/null | grep -qx getty") != 0)
    GTEST_SKIP() << "needs busybox-static";
  // The answer of a captive portal.
  set_curl("while [[ $1 != -o ]]; do shift; done; echo '<html>' >\"$2\"");
  fs::create_directory(folder_ / "cache");
  std::ofstream(folder_ / "cache/alpine-minirootfs-3.20.3-x86_64.tar.gz") << "cut off";
  const Outcome built = build();
  EXPECT_EQ(built.status, 0) << built.text;
  EXPECT_THAT(built.text, AllOf(HasSubstr("is damaged (its SHA-512 differs); removing it"),
                                HasSubstr("a small root of Debian's busybox")));
  EXPECT_FALSE(has("cache/alpine-minirootfs-3.20.3-x86_64.tar.gz"));
}

// A user who names a file gets that file or an error: tests of Alpine must not run with busybox.
TEST_F(GuestImages, AFileThatTheUserNamesIsTakenOrRefused) {
  set_curl("echo >asked");
  for (const char* wrong : {"/nonexistent", "/", "/etc/passwd"}) {
    const Outcome built = build(wrong);
    EXPECT_EQ(built.status, 1) << wrong;
    EXPECT_THAT(built.text, HasSubstr("ALPINE_MINIROOTFS: /"));
  }
  EXPECT_FALSE(has("asked"));
  EXPECT_FALSE(has("out/alpine.ext4"));
}

TEST_F(GuestImages, AlpineIsTakenFromWhereTheUserSays) {
  const char* const given = std::getenv("ALPINE_MINIROOTFS");
  if (given == nullptr) GTEST_SKIP() << "needs Alpine itself: ALPINE_MINIROOTFS";
  set_curl("echo >asked");
  const Outcome built = build(given);
  EXPECT_EQ(built.status, 0) << built.text;
  EXPECT_THAT(look("cat /etc/os-release"), HasSubstr("Alpine Linux"));
  EXPECT_FALSE(has("asked"));
}

}  // namespace
