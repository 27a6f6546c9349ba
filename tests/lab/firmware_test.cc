// Machines that start by their firmware: a disk by its own GRUB, CDs by isolinux and by GRUB.
// QEMU boots the same guests, as a control: what fails there, too, is not wick's fault.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <vector>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

// The release in the name of Debian's package, which has a newer kernel.
constexpr const char* kReleaseOfPackage =
    "dpkg-deb -f /root/linux-image.deb Package | sed s/^linux-image-//";

// An overlay of its own, for one machine to write to.
std::string debian_disk(const TempDir& dir) {
  const std::string disk = dir / "disk.qcow2";
  const Finished made = finish({"qemu-img", "create", "-q", "-f", "qcow2", "-b",
                                image("debian-disk.qcow2"), "-F", "qcow2", disk});
  if (made.status != 0) give_up("qemu-img: " + made.err);
  return disk;
}

void expect_sound(const std::string& disk) {
  const Finished check = finish({"qemu-img", "check", disk});
  EXPECT_EQ(check.status, 0) << check.out << check.err;
}

struct Machine {
  const char* vmm;     // "wick" or "qemu"
  const char* device;  // "virtio" or "ide"
};

std::string name_of(const testing::TestParamInfo<Machine>& test) {
  return fmt::format("{}_{}", test.param.vmm, test.param.device);
}

bool is_wick(const Machine& machine) { return machine.vmm == std::string("wick"); }

// Starts a machine from its disk. A reboot starts it again.
std::vector<std::string> from_disk(const Machine& machine, const std::string& disk) {
  if (is_wick(machine)) {
    return wick_run({"--boot", "disk", "-m", "512M", "--on-reboot", "reset", "-d",
                     fmt::format("{},device={},backing=any", disk, machine.device)});
  }
  const std::string drive = fmt::format("file={},format=qcow2,if={}", disk, machine.device);
  return {
      "qemu-system-x86_64", "-accel",   "kvm",  "-M",   "pc",  "-cpu",    "host",  "-m",     "512",
      "-nodefaults",        "-display", "none", "-vga", "std", "-serial", "stdio", "-drive", drive};
}

void leave(const Machine& machine, Process& vm) {
  if (is_wick(machine)) {
    power_off(vm);
    return;
  }
  vm.console().send("poweroff\n");
  EXPECT_EQ(vm.wait(), 0);
}

// Starts the first entry of GRUB's menu, which would start by itself after five seconds.
void choose_first_entry(Dialogue& console) {
  console.expect("GNU GRUB");
  console.expect("Debian GNU/Linux");
  console.send("\r");
}

class DiskOfFirmware : public testing::TestWithParam<Machine> {
 protected:
  // On a disk: an upgrade writes some 200 MiB.
  const TempDir dir_{folder_on_disk()};
  const std::string disk_ = debian_disk(dir_);
};

TEST_P(DiskOfFirmware, BootsByItsOwnGrub) {
  Process vm(from_disk(GetParam(), disk_));
  Dialogue& shell = vm.console();
  choose_first_entry(shell);
  log_in(shell);
  const std::string cmdline = run_in_guest(shell, "cat /proc/cmdline");
  EXPECT_THAT(cmdline, ContainsRegex("BOOT_IMAGE=/boot/vmlinuz-.* root=UUID=7769636b-"));
  EXPECT_THAT(cmdline, HasSubstr("console=tty0 console=ttyS0,115200"));
  EXPECT_EQ(run_in_guest(shell, "findmnt -no SOURCE /"),
            GetParam().device == std::string("ide") ? "/dev/sda1" : "/dev/vda1");
  EXPECT_EQ(run_in_guest(shell, "systemctl --failed --no-legend | wc -l"), "0");
  const std::string faults = complaints(run_in_guest(shell, "dmesg"));
  if (is_wick(GetParam())) {
    EXPECT_EQ(faults, "");
  }
  leave(GetParam(), vm);
  expect_sound(disk_);
}

// What a user of an installed machine does: an upgrade of the kernel, which makes an initramfs
// and a menu of GRUB's, and a reboot, which must start it.
TEST_P(DiskOfFirmware, RebootsIntoAKernelThatTheGuestInstalls) {
  constexpr Seconds kInstallation{1200};
  Process vm(from_disk(GetParam(), disk_));
  Dialogue& shell = vm.console();
  choose_first_entry(shell);
  log_in(shell);
  if (ask(shell, "test -e /root/linux-image.deb").status != 0)
    GTEST_SKIP() << "guest-images/build debian-disk found one kernel only";
  const std::string newer = run_in_guest(shell, kReleaseOfPackage);
  EXPECT_NE(run_in_guest(shell, "uname -r"), newer);
  (void)run_in_guest(shell, "dpkg -i /root/linux-image.deb", kInstallation);
  EXPECT_THAT(run_in_guest(shell, "ls /boot"), HasSubstr("initrd.img-" + newer));
  shell.send("reboot\n");
  choose_first_entry(shell);
  log_in(shell);
  EXPECT_EQ(run_in_guest(shell, "uname -r"), newer);
  leave(GetParam(), vm);
  expect_sound(disk_);
}

INSTANTIATE_TEST_SUITE_P(FirmwareLong, DiskOfFirmware,
                         testing::Values(Machine{"wick", "virtio"}, Machine{"wick", "ide"}),
                         name_of);
INSTANTIATE_TEST_SUITE_P(FirmwareControlLong, DiskOfFirmware,
                         testing::Values(Machine{"qemu", "virtio"}, Machine{"qemu", "ide"}),
                         name_of);

// --- CDs --------------------------------------------------------------------

// The guest of the CDs tells about itself and powers off.
void expect_report(Process& vm) {
  const std::string before = vm.console().expect("wick-initrd: Linux ");
  EXPECT_EQ(complaints(before), "");
  expect_ending(vm, 0, "wick: the guest powered off");
}

TEST(CdOfFirmware, BootsByIsolinuxFromItsMenuOnTheSerialPort) {
  Process vm(wick_run({"--boot", "cdrom", "--cdrom", image("isolinux.iso")}));
  // Without a screen the BIOS shows on the serial port what isolinux writes there, too, so most
  // characters come twice.
  vm.console().expect("isolinux, text menu");
  vm.console().send("r");
  expect_report(vm);
}

TEST(CdOfFirmware, GivesAShellByIsolinux) {
  Process vm(wick_run({"--boot", "cdrom", "-m", "256M", "--cdrom", image("isolinux.iso")}));
  vm.console().expect("isolinux, text menu");
  vm.console().send("s");
  vm.console().expect("# ");
  EXPECT_THAT(run_in_guest(vm.console(), "cat /proc/cmdline"),
              ContainsRegex("BOOT_IMAGE=vmlinuz .*wick.sh"));
  vm.console().send("poweroff -f\n");
  expect_ending(vm, 0, "wick: the guest powered off");
}

// The menu needs a screen; it starts its first entry after 30 seconds without a key.
TEST(CdOfFirmware, BootsByTheGraphicalMenuWithoutAKeyLong) {
  Process vm(wick_run({"--boot", "cdrom", "--cdrom", image("isolinux-vesa.iso")}));
  expect_report(vm);
}

TEST(CdOfFirmware, BootsByGrub) {
  Process vm(wick_run({"--boot", "cdrom", "--cdrom", image("grub.iso")}));
  vm.console().expect("GNU GRUB");
  vm.console().expect("First disk");  // the last entry
  vm.console().send("r");
  expect_report(vm);
}

// Discs of both kinds have a boot sector, too, as Debian's have for USB sticks.
TEST(CdOfFirmware, BootsAsADiskLong) {
  for (const char* const device : {"virtio", "ide"}) {
    SCOPED_TRACE(device);
    Process vm(
        wick_run({"--boot", "disk", "-d",
                  fmt::format("{},format=raw,readonly=on,device={}", image("grub.iso"), device)}));
    vm.console().expect("GNU GRUB");
    vm.console().expect("First disk");
    vm.console().send("r");
    expect_report(vm);
  }
}

TEST(CdOfFirmware, GoesOnToTheDiskLong) {
  const TempDir dir(folder_on_disk());
  Process vm(wick_run({"--boot", "cdrom", "--cdrom", image("isolinux.iso"), "-d",
                       debian_disk(dir) + ",backing=any", "-m", "512M"}));
  vm.console().expect("isolinux, text menu");
  vm.console().send("d");
  choose_first_entry(vm.console());
  log_in(vm.console());
  power_off(vm);
}

TEST(CdOfFirmware, TestsTheMemory) {
  Process vm(wick_run({"--boot", "cdrom", "-m", "64M", "--cdrom", image("memtest-serial.iso")}));
  vm.console().expect("Memtest86+ v");
  vm.console().expect("All Cores");  // the tests have begun
  vm.signal(SIGTERM);
  expect_ending(vm, 143, "wick: ended by signal 15 (SIGTERM)");
}

}  // namespace
}  // namespace wick::lab
