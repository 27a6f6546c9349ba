// wick image create --from: the file system is sound by fsck.ext4, and has the folder's files by
// debugfs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "block/image_file.h"
#include "block/io_thread.h"
#include "tests/cli/image/fixture.h"

namespace wick::cli {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

class FromFolder : public ImageCommands {
 protected:
  FromFolder() {
    std::filesystem::create_directories("tree/deep/er");
    fakes::write_file("tree/hello", "hello, world\n");
    fakes::write_file("tree/deep/er/big", std::string(3 << 20, 'x'));
    fakes::write_file("tree/deep/hole", "");
    std::filesystem::resize_file("tree/deep/hole", 1ull << 32);
    std::filesystem::create_hard_link("tree/hello", "tree/deep/same");
    std::filesystem::create_symlink(std::string(100, 'l'), "tree/link");
    ::chmod("tree/hello", 0640);
  }
  // What debugfs prints.
  static std::string debugfs(const std::string& image, const std::string& request) {
    return shell("PATH=$PATH:/usr/sbin:/sbin debugfs -R '" + request + "' " + image).out;
  }
  static int fsck(const std::string& image) {
    return shell("PATH=$PATH:/usr/sbin:/sbin fsck.ext4 -fn " + image).status;
  }
  // Without the files that shell() makes.
  static std::vector<std::string> files() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator("."))
      if (const std::string name = entry.path().filename(); name != "out" && name != "err")
        names.push_back(name);
    return names;
  }
};

TEST_F(FromFolder, ARawImageHasTheFiles) {
  const Outcome made = wick({"create", "--from", "tree", "--label", "my files", "disk.raw"});
  ASSERT_EQ(made.status, 0) << made.error;
  EXPECT_THAT(made.out, HasSubstr("Formatting 'disk.raw', fmt=raw size="));
  EXPECT_EQ(fsck("disk.raw"), 0);
  EXPECT_EQ(debugfs("disk.raw", "cat /hello"), "hello, world\n");
  EXPECT_EQ(debugfs("disk.raw", "cat /deep/same"), "hello, world\n");
  EXPECT_THAT(debugfs("disk.raw", "stat /hello"), HasSubstr("Mode:  0640"));
  EXPECT_THAT(debugfs("disk.raw", "stat /hello"), HasSubstr("Links: 2"));
  EXPECT_EQ(debugfs("disk.raw", "cat /link"), std::string(100, 'l'));
  EXPECT_THAT(debugfs("disk.raw", "stat /deep/hole"), HasSubstr("Size: 4294967296"));
  EXPECT_EQ(debugfs("disk.raw", "cat /deep/er/big"), std::string(3 << 20, 'x'));
  EXPECT_THAT(debugfs("disk.raw", "show_super_stats -h"), HasSubstr("my files"));
  EXPECT_LT(std::filesystem::file_size("disk.raw"), 200u << 20) << "holes take no space";
  EXPECT_THAT(files(), UnorderedElementsAre("tree", "disk.raw"));
}

TEST_F(FromFolder, AQcow2ImageHasTheSameFileSystem) {
  const Outcome made = wick({"create", "-q", "-f", "qcow2", "-o", "cluster_size=16k", "--from",
                             "tree", "disk.qcow2", "300M"});
  ASSERT_EQ(made.status, 0) << made.error;
  EXPECT_EQ(made.out, "");
  EXPECT_EQ(shell("qemu-img check disk.qcow2").status, 0);
  const Outcome info = shell("qemu-img info disk.qcow2");
  EXPECT_THAT(info.out, HasSubstr("virtual size: 300 MiB"));
  EXPECT_THAT(info.out, HasSubstr("cluster_size: 16384"));
  ASSERT_EQ(shell("qemu-img convert -O raw disk.qcow2 disk.raw").status, 0);
  EXPECT_EQ(fsck("disk.raw"), 0);
  EXPECT_EQ(debugfs("disk.raw", "cat /hello"), "hello, world\n");
}

TEST_F(FromFolder, ASizeThatIsTooSmallChangesNothing) {
  fakes::write_file("disk.raw", "precious");
  for (const char* const format : {"raw", "qcow2"}) {
    const Outcome made = wick({"create", "-f", format, "--from", "tree", "disk.raw", "3M"});
    EXPECT_EQ(made.status, 1);
    EXPECT_THAT(made.error, HasSubstr("does not fit into 3145728 bytes"));
  }
  EXPECT_EQ(fakes::read_file("disk.raw"), "precious");
  EXPECT_THAT(files(), UnorderedElementsAre("tree", "disk.raw"));
}

TEST_F(FromFolder, AKilledCommandLeavesNothing) {
  for (const char* const format : {"raw", "qcow2"})
    for (const char* const seconds : {"0.01", "0.05", "0.1", "0.2", "0.4"}) {
      shell(std::string("timeout -s KILL ") + seconds + " " + WICK_BINARY + " image create -f " +
            format + " --from tree disk");
      // Unless it was finished before.
      if (std::filesystem::remove("disk")) continue;
      EXPECT_THAT(files(), UnorderedElementsAre("tree")) << format << " " << seconds;
    }
}

TEST_F(FromFolder, ManySmallFilesHaveTheirInodes) {
  std::filesystem::create_directory("many");
  for (int i = 0; i < 3000; ++i) std::ofstream("many/" + std::to_string(i)) << i;
  ASSERT_EQ(wick({"create", "--from", "many", "disk.raw"}).status, 0);
  EXPECT_EQ(fsck("disk.raw"), 0);
  EXPECT_EQ(debugfs("disk.raw", "cat /2999"), "2999");
}

TEST_F(FromFolder, WhatIsNoFolderIsRefused) {
  EXPECT_THAT(wick({"create", "--from", "tree/hello", "disk.raw"}).error,
              HasSubstr("is not a folder"));
  EXPECT_THAT(wick({"create", "--from", "absent", "disk.raw"}).error, HasSubstr("is not a folder"));
  EXPECT_THAT(files(), UnorderedElementsAre("tree"));
}

TEST_F(FromFolder, AnImageInUseIsNotReplaced) {
  ASSERT_EQ(wick({"create", "-q", "disk.raw", "1M"}).status, 0);
  const auto thread = block::IoThread::create("image").value();
  const auto writer =
      block::open_image_file("disk.raw", {.format = block::Format::kRaw}, thread->io());
  ASSERT_TRUE(writer);
  const Outcome made = wick({"create", "--from", "tree", "disk.raw"});
  EXPECT_EQ(made.status, 1);
  EXPECT_EQ(std::filesystem::file_size("disk.raw"), 1u << 20);
}

TEST_F(FromFolder, UsageErrorsNameTheOption) {
  const auto error = [](Arguments arguments) {
    arguments.insert(arguments.begin(), "create");
    const auto command = parse(arguments);
    return command ? "" : command.error().error.message();
  };
  EXPECT_THAT(error({"--label", "x", "disk.raw", "1M"}), HasSubstr("--label: only with --from"));
  EXPECT_THAT(error({"--from", "tree", "--label", "01234567890123456", "d"}),
              HasSubstr("more than 16 bytes"));
  EXPECT_THAT(error({"--from", "tree", "-f", "qcow2", "-b", "base", "d"}),
              HasSubstr("--from: not with a backing file"));
  EXPECT_THAT(error({"disk.raw"}), HasSubstr("SIZE is missing"));
}

}  // namespace
}  // namespace wick::cli
