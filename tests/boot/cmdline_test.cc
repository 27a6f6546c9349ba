#include "boot/cmdline.h"

#include <gtest/gtest.h>

namespace wick::boot {
namespace {

TEST(CommandLine, SaysOnlyWhatTheOptionsImply) {
  EXPECT_EQ(make_command_line({}), "panic=-1 reboot=k");
  EXPECT_EQ(make_command_line({.console = "ttyS0"}), "console=ttyS0 panic=-1 reboot=k");
  EXPECT_EQ(make_command_line({.console = "ttyS0", .root_device = "/dev/vda"}),
            "console=ttyS0 root=/dev/vda rw panic=-1 reboot=k");
}

TEST(CommandLine, MountsAReadOnlyDiskReadOnly) {
  EXPECT_EQ(make_command_line({.root_device = "/dev/vda", .root_read_only = true}),
            "root=/dev/vda ro panic=-1 reboot=k");
}

TEST(CommandLine, NamesTheRootByItsDevice) {
  EXPECT_EQ(make_command_line({.root_device = "/dev/sda"}), "root=/dev/sda rw panic=-1 reboot=k");
}

TEST(CommandLine, KeepsLinuxWhereADebuggerExpectsIt) {
  EXPECT_EQ(make_command_line({.kaslr = false, .append = "quiet"}),
            "panic=-1 reboot=k nokaslr quiet");
}

TEST(CommandLine, LeavesTheRootToAnInitrd) {
  EXPECT_EQ(make_command_line({.root_device = "/dev/vda", .has_initrd = true}),
            "panic=-1 reboot=k");
}

TEST(CommandLine, LeavesTheRootToTheUser) {
  const auto has_own_root = [](const std::string& append) {
    return make_command_line({.root_device = "/dev/vda", .append = append}) ==
           "panic=-1 reboot=k " + append;
  };
  EXPECT_TRUE(has_own_root("root=/dev/vdb"));
  EXPECT_TRUE(has_own_root("quiet  root=LABEL=x rw"));
  EXPECT_TRUE(has_own_root("quiet\troot=/dev/vdb"));
  EXPECT_TRUE(has_own_root("\"root=PARTLABEL=two words\""));
  EXPECT_TRUE(has_own_root("a=\"b c\" root=/dev/vdb"));
}

TEST(CommandLine, KnowsARootFromWhatLooksLikeOne) {
  const auto has_own_root = [](const std::string& append) {
    return make_command_line({.root_device = "/dev/vda", .append = append}).find("/dev/vda") ==
           std::string::npos;
  };
  EXPECT_FALSE(has_own_root("rootfstype=ext4 rootwait"));
  EXPECT_FALSE(has_own_root("nfsroot=1.2.3.4:/x"));
  EXPECT_FALSE(has_own_root("a=\"b root=c\""));
  EXPECT_FALSE(has_own_root("init=/bin/sh -- root=/dev/vdb"));
  EXPECT_FALSE(has_own_root("root"));
  EXPECT_FALSE(has_own_root("   "));
}

TEST(CommandLine, NamesMmioDevicesWhenTheyCannotBeFound) {
  EXPECT_EQ(make_command_line(
                {.mmio = {{0xd000'0000, 4096, 16}, {0xd000'1000, 4096, 17}}, .append = "quiet"}),
            "panic=-1 reboot=k virtio_mmio.device=0x1000@0xd0000000:16 "
            "virtio_mmio.device=0x1000@0xd0001000:17 quiet");
}

}  // namespace
}  // namespace wick::boot
