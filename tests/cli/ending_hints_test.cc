#include "cli/ending_hints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace wick::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kCmdline = "console=ttyS0 panic=-1";

std::string hint(std::vector<std::string> lines, const vmm::MachineConfig& config = {},
                 vmm::Ending ending = vmm::Ending::kPanicked) {
  vmm::RunReport report;
  report.ending = ending;
  report.console_lines = std::move(lines);
  return ending_hint(report, config, kCmdline);
}

vmm::MachineConfig with_disk() {
  vmm::MachineConfig config;
  config.disks.emplace_back();
  return config;
}

// The output of Linux 6.1, with the disks that it found.
std::vector<std::string> no_root_device(const std::vector<std::string>& list) {
  std::vector<std::string> lines = {
      "[    2.8] VFS: Cannot open root device \"vdz\" or unknown-block(0,0): error -6",
      "[    2.8] Please append a correct \"root=\" boot option; here are the available "
      "partitions:"};
  lines.insert(lines.end(), list.begin(), list.end());
  lines.emplace_back(
      "[    2.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)");
  lines.emplace_back("[    2.9] ---[ end Kernel panic - not syncing: VFS: Unable to mount ]---");
  return lines;
}

TEST(EndingHint, MissingRootDeviceAndMissingDriverHaveDifferentHints) {
  EXPECT_THAT(
      hint(no_root_device({"[    2.8] fe00            1024 vda ", "[    2.8]  driver: virtio_blk",
                           "[    2.8]   fe01             512 vda1"}),
           with_disk()),
      HasSubstr("it found: vda, vda1"));
  EXPECT_THAT(hint(no_root_device({"[    2.8] 0100            4096 ram0 "}), with_disk()),
              HasSubstr("no built-in driver for virtio disks, and no initrd was given"));
  vmm::MachineConfig on_ide = with_disk();
  on_ide.disks[0].device = vmm::DiskConfig::Device::kIde;
  EXPECT_THAT(hint(no_root_device({"[    2.8] 0100            4096 ram0 "}), on_ide),
              HasSubstr("no built-in driver for IDE disks, and no initrd was given"));
  EXPECT_THAT(hint(no_root_device({})), HasSubstr("give a disk with -d"));
  vmm::MachineConfig with_initrd = with_disk();
  with_initrd.initrd_path = "initrd";
  EXPECT_THAT(hint(no_root_device({}), with_initrd), HasSubstr("no /init in the initrd"));
}

TEST(EndingHint, NoHintIfQuietHidTheList) {
  EXPECT_EQ(hint({"Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"},
                 with_disk()),
            "");
}

TEST(EndingHint, UnknownFileSystemDiffersFromMissingDevice) {
  EXPECT_THAT(hint({"[    3.0] No filesystem could mount root, tried: ",
                    "[    3.0] Kernel panic - not syncing: VFS: Unable to mount root fs on "
                    "unknown-block(254,0)"},
                   with_disk()),
              HasSubstr("root device exists"));
}

TEST(EndingHint, InitThatIsMissingOrDied) {
  EXPECT_THAT(
      hint({"Kernel panic - not syncing: No working init found.  Try passing init= option"}),
      HasSubstr("init=PATH"));
  EXPECT_THAT(hint({"Kernel panic - not syncing: Requested init /x failed (error -2)."}),
              HasSubstr("/x, cannot be started"));
  const std::string died =
      "[    1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x";
  EXPECT_THAT(hint({died + "00000100"}), HasSubstr("ended with status 1"));
  EXPECT_THAT(hint({died + "00007f00"}), HasSubstr("ended with status 127"));
  EXPECT_THAT(hint({died + "0000000b"}), HasSubstr("signal 11 (SIGSEGV)"));
}

TEST(EndingHint, InitramfsThatWaitsInVain) {
  const std::string alert = "ALERT!  UUID=1234 does not exist.  Dropping to a shell!";
  EXPECT_THAT(hint({alert, "(initramfs) "}, with_disk(), vmm::Ending::kTimeout),
              HasSubstr("UUID=1234"));
  EXPECT_THAT(hint({alert}, {}, vmm::Ending::kRebooted), HasSubstr("no disk"));
  // The end of its shell is a consequence.
  EXPECT_THAT(
      hint({alert, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"},
           with_disk()),
      HasSubstr("UUID=1234"));
}

TEST(EndingHint, TooLittleMemory) {
  EXPECT_THAT(hint({"Out of memory while allocating output buffer", "", " -- System halted"}, {},
                   vmm::Ending::kHalted),
              AllOf(HasSubstr("512 MiB"), HasSubstr("-m")));
  EXPECT_THAT(hint({"[ 9.0] Kernel panic - not syncing: System is deadlocked on memory"}),
              HasSubstr("-m"));
}

TEST(EndingHint, OfAMultibootKernelIsNone) {
  vmm::RunReport report;
  report.ending = vmm::Ending::kTripleFault;
  EXPECT_NE(ending_hint(report, {}, ""), "");
  report.multiboot = true;
  EXPECT_EQ(ending_hint(report, {}, ""), "");
}

TEST(EndingHint, SilentGuestIsAskedForItsConsole) {
  vmm::RunReport report;
  report.ending = vmm::Ending::kTimeout;
  EXPECT_THAT(ending_hint(report, {}, "root=/dev/vda"), HasSubstr("no console=ttyS0"));
  EXPECT_THAT(ending_hint(report, {}, kCmdline), HasSubstr("earlyprintk"));
  EXPECT_EQ(ending_hint(report, {}, "console=ttyS0 earlyprintk=serial"), "");
  for (const vmm::Ending ending : {vmm::Ending::kHalted, vmm::Ending::kRebooted}) {
    report.ending = ending;
    EXPECT_THAT(ending_hint(report, {}, ""), HasSubstr("no console=ttyS0"));
  }
  report.ending = vmm::Ending::kPoweredOff;
  EXPECT_EQ(ending_hint(report, {}, ""), "");
}

// Its boot loader starts the kernel, so options for a kernel are of no use.
TEST(EndingHint, AGuestOfFirmwareIsToldOfNoKernelOption) {
  vmm::MachineConfig config;
  config.firmware_path = "bios.bin";
  vmm::RunReport report;
  report.ending = vmm::Ending::kTimeout;
  EXPECT_EQ(ending_hint(report, config, ""), "");
  report.silent = true;
  EXPECT_EQ(ending_hint(report, config, ""), "-vv shows the log of the firmware");
}

TEST(EndingHint, GoodEndingsAndUserInputHaveNone) {
  EXPECT_EQ(
      hint({"Kernel panic - not syncing: No working init found."}, {}, vmm::Ending::kPoweredOff),
      "");
  EXPECT_EQ(hint({"# echo Kernel panic - not syncing: No working init found."}), "");
  EXPECT_EQ(hint({"[    1.0] all is well"}, {}, vmm::Ending::kTimeout), "");
}

}  // namespace
}  // namespace wick::cli
