// wick image convert, commit and rebase, against qemu-img.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/fd.h"
#include "cli/options.h"
#include "tests/cli/image/fixture.h"

namespace wick::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class ImageCopy : public InOwnFolder {
 protected:
  // Returns the error, or "".
  static std::string wick(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "image");
    const auto command = parse_command(arguments, [](const std::string&) { return nullptr; });
    if (!command) return "usage: " + command.error().error.message();
    const auto status = std::visit([](const auto& what) { return image::execute(what); },
                                   std::get<image::ImageCommand>(*command));
    return status ? "" : status.error().message();
  }
  static bool shell(const std::string& command) {
    return std::system(("(" + command + ") >/dev/null").c_str()) == 0;
  }
  // Makes a chain of base.raw, middle.qcow2 and top.qcow2, and top.raw with the content of
  // top.qcow2.
  static void make_chain(const std::string& base_size, const std::string& size,
                         const std::string& options = "compat=1.1") {
    ASSERT_TRUE(shell("qemu-img create -f raw base.raw " + base_size +
                      " && qemu-io -f raw -c 'write -P 1 0 300k' -c 'write -P 2 700k 100k' base.raw"
                      " && qemu-img create -f qcow2 -o " +
                      options + " -b base.raw -F raw middle.qcow2 " + base_size +
                      " && qemu-io -c 'write -P 3 100k 50k' -c 'write -z 200k 70k' middle.qcow2"
                      " && qemu-img create -f qcow2 -o " +
                      options + " -b middle.qcow2 -F qcow2 top.qcow2 " + size +
                      " && qemu-io -c 'write -P 4 64k 64k' -c 'write -z 720k 30k'"
                      " -c 'write -P 5 400k 200k' top.qcow2"
                      " && qemu-img convert -O raw top.qcow2 top.raw"));
  }
};

TEST_F(ImageCopy, ConvertsBetweenAllFormatsAndQemuAgrees) {
  make_chain("1M", "1M");
  for (const std::string format : {"raw", "qcow2", "vdi", "vmdk"}) {
    EXPECT_EQ(wick({"convert", "-O", format, "top.qcow2", "out." + format}), "");
    EXPECT_TRUE(shell("qemu-img compare -f " + format + " -F raw out." + format + " top.raw"));
    EXPECT_TRUE(shell("qemu-img convert -f " + format + " -O raw out." + format +
                      " back.raw && cmp back.raw top.raw"));
  }
  for (const char* type : {"zlib", "zstd"}) {
    EXPECT_EQ(
        wick({"convert", "-c", "-W", "-m", "4", "-O", "qcow2", "-o",
              std::string("cluster_size=4k,compression_type=") + type, "top.qcow2", "c.qcow2"}),
        "");
    EXPECT_TRUE(shell("qemu-img compare c.qcow2 top.raw && qemu-img check c.qcow2"));
  }
  EXPECT_EQ(wick({"convert", "-O", "qcow2", "-o", "data_file=c.data", "top.qcow2", "d.qcow2"}), "");
  EXPECT_EQ(wick({"convert", "-O", "qcow2", "-o", "preallocation=metadata", "d.qcow2", "e.qcow2"}),
            "");
  EXPECT_TRUE(shell("qemu-img compare e.qcow2 top.raw && qemu-img check e.qcow2"));
}

TEST_F(ImageCopy, SeveralSourcesFollowEachOther) {
  ASSERT_TRUE(
      shell("yes one | head -c 70000 > a.raw; yes two | head -c 512 > b.raw;"
            "qemu-img convert -f raw -O raw a.raw a512.raw; cat a512.raw b.raw > ab.raw"));
  EXPECT_EQ(wick({"convert", "-f", "raw", "-O", "qcow2", "a.raw", "b.raw", "ab.qcow2"}), "");
  EXPECT_TRUE(shell("qemu-img compare -f qcow2 -F raw ab.qcow2 ab.raw"));
}

TEST_F(ImageCopy, AnEmptyDiskStaysEmpty) {
  ASSERT_TRUE(shell("touch a.raw"));
  EXPECT_EQ(wick({"convert", "-f", "raw", "-O", "qcow2", "a.raw", "b.qcow2"}), "");
  EXPECT_EQ(wick({"convert", "b.qcow2", "c.raw"}), "");
  EXPECT_EQ(std::filesystem::file_size("c.raw"), 0);
}

TEST_F(ImageCopy, WritesIntoAnExistingTargetThatIsLargeEnough) {
  make_chain("1M", "1M");
  ASSERT_TRUE(shell("head -c 1M /dev/urandom > there.raw; head -c 512k /dev/urandom > small.raw"));
  EXPECT_EQ(wick({"convert", "-n", "top.qcow2", "there.raw"}), "");
  EXPECT_TRUE(shell("cmp there.raw top.raw"));
  EXPECT_THAT(wick({"convert", "-n", "top.qcow2", "small.raw"}), HasSubstr("too few"));
}

TEST_F(ImageCopy, NeverDestroysWhatItReads) {
  make_chain("1M", "1M");
  for (const char* target : {"top.qcow2", "middle.qcow2", "./base.raw"})
    EXPECT_THAT(wick({"convert", "-O", "qcow2", "top.qcow2", target}),
                HasSubstr("is also read as a source"));
  EXPECT_THAT(wick({"convert", "nothing.qcow2", "top.raw"}), HasSubstr("No such file"));
  EXPECT_TRUE(shell("qemu-img compare top.qcow2 top.raw"));
}

TEST_F(ImageCopy, SaysThatTheDiskIsFull) {
  ASSERT_TRUE(shell("head -c 4M /dev/urandom > a.raw"));
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{2 << 20, old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = wick({"convert", "-O", "qcow2", "a.raw", "b.qcow2"});
  ::setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_THAT(message, StartsWith("b.qcow2: write of"));
  EXPECT_THAT(message, HasSubstr("File too large"));
  EXPECT_FALSE(std::filesystem::exists("b.qcow2"));
}

TEST_F(ImageCopy, RefusesWhatAFormatCannotDo) {
  EXPECT_THAT(wick({"convert", "-c", "a", "b"}), HasSubstr("raw images cannot be compressed"));
  EXPECT_THAT(wick({"convert", "-O", "qed", "a", "b"}), HasSubstr("-O 'qed'"));
  EXPECT_THAT(wick({"convert", "-O", "vdi", "-o", "static=on", "a", "b"}), HasSubstr("-o: not"));
  EXPECT_THAT(wick({"convert", "-O", "qcow2", "-o", "size=1M", "a", "b"}), HasSubstr("size"));
  EXPECT_THAT(wick({"convert", "a"}), StartsWith("usage"));
}

TEST_F(ImageCopy, CommitsAnOverlayAndEmptiesIt) {
  for (const char* options : {"compat=1.1", "compat=0.10", "cluster_size=4k", "extended_l2=on"})
    for (const char* size : {"1M", "1500k", "900k"}) {
      make_chain("1M", size, options);
      EXPECT_EQ(wick({"commit", "-q", "-d", "top.qcow2"}), "");
      EXPECT_TRUE(shell("qemu-img compare top.qcow2 top.raw && qemu-img check top.qcow2"));
      EXPECT_EQ(wick({"commit", "-q", "top.qcow2"}), "");
      for (const char* image : {"top.qcow2", "middle.qcow2"})
        EXPECT_TRUE(shell(std::string("qemu-img check ") + image)) << options << size;
      EXPECT_TRUE(shell("qemu-img compare top.qcow2 top.raw")) << options << size;
      EXPECT_TRUE(shell("qemu-img compare middle.qcow2 top.raw")) << options << size;
      EXPECT_TRUE(shell("! qemu-img map top.qcow2 | grep -q top.qcow2")) << options << size;
      // A raw backing file grows.
      EXPECT_EQ(wick({"commit", "-q", "middle.qcow2"}), "");
      EXPECT_TRUE(shell("qemu-img compare -F raw base.raw -f raw top.raw")) << options << size;
    }
}

TEST_F(ImageCopy, CommitKeepsSnapshots) {
  make_chain("1M", "1M");
  ASSERT_TRUE(
      shell("qemu-img snapshot -c one top.qcow2 && qemu-io -c 'write -P 9 64k 10k' top.qcow2"
            " && qemu-img convert -O raw top.qcow2 now.raw"));
  EXPECT_EQ(wick({"commit", "-q", "top.qcow2"}), "");
  EXPECT_TRUE(shell("qemu-img check top.qcow2 && qemu-img compare top.qcow2 now.raw"));
  EXPECT_TRUE(
      shell("qemu-img snapshot -a one top.qcow2 && qemu-img check top.qcow2 &&"
            "qemu-io -c 'read -P 4 64k 64k' top.qcow2"));
}

// Replaces each by the other without a moment in which one of them is missing.
void exchange(const char* one, const char* other) {
  EXPECT_EQ(::renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE), 0);
}

// A program with write access to the folder replaces the backing file as soon as it is open.
TEST_F(ImageCopy, CommitWritesToTheFileThatItOpenedFirst) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(
        shell("rm -f *; truncate -s 1M base.raw other.raw;"
              "qemu-img create -f qcow2 -b base.raw -F raw top.qcow2 1M &&"
              "qemu-io -c 'write -P 7 0 1M' top.qcow2"));
    const Fd watch(::inotify_init1(IN_CLOEXEC));
    ASSERT_GE(::inotify_add_watch(watch.get(), "base.raw", IN_OPEN), 0);
    std::thread swap([&] {
      std::array<char, 4096> event{};
      EXPECT_GT(::read(watch.get(), event.data(), event.size()), 0);
      exchange("base.raw", "other.raw");
    });
    EXPECT_EQ(wick({"commit", "-q", "-d", "top.qcow2"}), "");
    swap.join();
    EXPECT_TRUE(shell("cmp -n 1M base.raw /dev/zero"));
    EXPECT_TRUE(shell("qemu-io -f raw -c 'read -P 7 0 1M' other.raw"));
    if (HasFailure()) break;
  }
}

// The same with the folder of a backing file that has a data file.
TEST_F(ImageCopy, CommitWritesToNoDataFileOfAFolderThatReplacedTheBases) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(
        shell("rm -rf *; mkdir base other; truncate -s 1M other/data.raw; cd base &&"
              "qemu-img create -f qcow2 -o data_file=data.raw,data_file_raw=on base.qcow2 1M &&"
              "cp base.qcow2 ../other && cd .. &&"
              "qemu-img create -u -f qcow2 -b base/base.qcow2 -F qcow2 top.qcow2 1M"));
    testing::internal::CaptureStdout();
    ASSERT_EQ(wick({"io", "-c", "write -P 7 0 1M", "top.qcow2"}), "");
    testing::internal::GetCapturedStdout();
    const Fd watch(::inotify_init1(IN_CLOEXEC));
    ASSERT_GE(::inotify_add_watch(watch.get(), "base/data.raw", IN_OPEN), 0);
    std::thread swap([&] {
      std::array<char, 4096> event{};
      EXPECT_GT(::read(watch.get(), event.data(), event.size()), 0);
      exchange("base", "other");
    });
    const std::string error = wick({"commit", "-q", "-d", "top.qcow2"});
    swap.join();
    EXPECT_TRUE(shell("cmp -n 1M base/data.raw /dev/zero"));
    if (error.empty()) {
      EXPECT_TRUE(shell("qemu-io -f raw -c 'read -P 7 0 1M' other/data.raw"));
    } else {
      // The second, if the folders were exchanged before the name was checked.
      EXPECT_THAT(error, testing::AnyOf(HasSubstr("is no longer at its path"),
                                        HasSubstr("not a file in the image's folder")));
    }
    if (HasFailure()) break;
  }
}

TEST_F(ImageCopy, CommitNeedsABackingFile) {
  ASSERT_TRUE(shell("qemu-img create -f qcow2 a.qcow2 1M"));
  EXPECT_THAT(wick({"commit", "a.qcow2"}), HasSubstr("no backing file"));
}

TEST_F(ImageCopy, RebaseChangesNothingThatAGuestSees) {
  for (const char* options : {"compat=1.1", "compat=0.10", "cluster_size=512", "extended_l2=on"})
    for (const char* size : {"1M", "1500k", "900k"}) {
      make_chain("1M", size, options);
      // To the base of its base, and to backing files that differ, are shorter, or longer.
      EXPECT_EQ(wick({"rebase", "-b", "base.raw", "-F", "raw", "top.qcow2"}), "");
      EXPECT_TRUE(shell("qemu-img check top.qcow2 && qemu-img compare top.qcow2 top.raw"));
      for (const char* other : {"500k", "2M"}) {
        ASSERT_TRUE(shell("rm -f other.qcow2 && qemu-img create -f qcow2 other.qcow2 " +
                          std::string(other) + " && qemu-io -c 'write -P 6 0 500k' other.qcow2"));
        EXPECT_EQ(wick({"rebase", "-b", "other.qcow2", "top.qcow2"}), "");
        EXPECT_TRUE(shell("qemu-img check top.qcow2 && qemu-img compare top.qcow2 top.raw"))
            << options << size << other;
        EXPECT_TRUE(
            shell("qemu-img info top.qcow2 | grep -q 'backing file: other.qcow2' &&"
                  "qemu-img info top.qcow2 | grep -q 'backing file format: qcow2'"));
      }
      EXPECT_EQ(wick({"rebase", "-b", "", "top.qcow2"}), "");
      EXPECT_TRUE(
          shell("qemu-img check top.qcow2 && rm other.qcow2 &&"
                "qemu-img compare top.qcow2 top.raw"))
          << options << size;
      // An image without a backing file gets one.
      EXPECT_EQ(wick({"rebase", "-b", "middle.qcow2", "top.qcow2"}), "");
      EXPECT_TRUE(shell("qemu-img check top.qcow2 && qemu-img compare top.qcow2 top.raw"))
          << options << size;
    }
}

TEST_F(ImageCopy, AnUnsafeRebaseOnlyChangesTheName) {
  make_chain("1M", "1M");
  ASSERT_TRUE(shell("mv middle.qcow2 moved.qcow2"));
  EXPECT_EQ(wick({"rebase", "-u", "-b", "moved.qcow2", "-F", "qcow2", "top.qcow2"}), "");
  EXPECT_TRUE(shell("qemu-img compare top.qcow2 top.raw && qemu-img check top.qcow2"));
}

TEST_F(ImageCopy, RebaseRefusesLoopsAndRawBasesWithoutAFormat) {
  make_chain("1M", "1M");
  EXPECT_THAT(wick({"rebase", "-b", "top.qcow2", "middle.qcow2"}),
              HasSubstr("its own backing file"));
  EXPECT_THAT(wick({"rebase", "-b", "base.raw", "top.qcow2"}), HasSubstr("-F raw"));
  EXPECT_THAT(wick({"rebase", "-u", "-b", "middle.qcow2", "base.raw"}), HasSubstr("is raw"));
  EXPECT_THAT(wick({"rebase", "-b", "missing.qcow2", "top.qcow2"}), HasSubstr("No such file"));
  EXPECT_TRUE(shell("qemu-img compare top.qcow2 top.raw"));
}

// -C copies inside the host's kernel if that can be done, and otherwise as without -C.
TEST_F(ImageCommands, CopyRawDisksInsideTheHost) {
  ASSERT_EQ(shell("truncate -s 9000001 a.raw && for i in 1 5 9 60; do dd if=/dev/urandom of=a.raw "
                  "bs=1 count=70001 seek=$((i * 131071)) conv=notrunc; done")
                .status,
            0);
  const std::string elsewhere = "/dev/shm/wick-copy-" + std::to_string(::getpid());
  for (const std::string& target : {std::string("b.raw"), elsewhere}) {
    for (const Arguments& how : {Arguments{}, Arguments{"-C"}}) {
      Arguments arguments = {"convert", "-f", "raw", "-O", "raw", "a.raw", target};
      arguments.insert(arguments.begin() + 1, how.begin(), how.end());
      EXPECT_EQ(wick(arguments).status, 0);
      EXPECT_EQ(shell("qemu-img compare -f raw -F raw a.raw " + target).status, 0);
      EXPECT_EQ(std::filesystem::file_size(target), 9'000'448u);
      EXPECT_EQ(shell("test $(stat -c %b " + target + ") -lt 2000").status, 0) << "not sparse";
      std::filesystem::remove(target);
    }
  }
  // Space that the user wants to be allocated stays so.
  EXPECT_EQ(wick({"convert", "-C", "-f", "raw", "-O", "raw", "-o", "preallocation=falloc", "a.raw",
                  "c.raw"})
                .status,
            0);
  EXPECT_EQ(shell("test $(stat -c %b c.raw) -ge 17577").status, 0);
}

TEST_F(ImageCommands, LeaveNoTargetThatTheHostCouldNotFill) {
  ASSERT_EQ(shell("dd if=/dev/urandom of=a.raw bs=1M count=4").status, 0);
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  for (const Arguments& how : {Arguments{}, Arguments{"-C"}}) {
    Arguments arguments = {"convert", "-f", "raw", "-O", "raw", "a.raw", "b.raw"};
    arguments.insert(arguments.begin() + 1, how.begin(), how.end());
    const rlimit small{2 << 20, old.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
    const auto outcome = wick(arguments);
    ::setrlimit(RLIMIT_FSIZE, &old);
    EXPECT_EQ(outcome.status, 1);
    EXPECT_FALSE(std::filesystem::exists("b.raw"));
  }
}

}  // namespace
}  // namespace wick::cli
