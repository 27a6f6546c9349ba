// Machines that start by OVMF. QEMU boots the same CD, as a control.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::HasSubstr;

// A menu entry of the CD, by its key.
void choose(Process& vm, const char* key) {
  vm.console().expect("GNU GRUB", Seconds(900));  // OVMF takes minutes in the lab
  vm.console().expect("First disk");              // the last entry
  vm.console().send(key);
}

std::vector<std::string> from_cd(const std::vector<std::string>& more = {}) {
  std::vector<std::string> options = {"--firmware",          "uefi", "--boot", "cdrom", "--cdrom",
                                      image("grub-efi.iso"), "-m",   "256M"};
  for (size_t i = 0; i + 1 < more.size(); ++i)
    if (more[i] == "--firmware") options[1] = more[i + 1];
  for (size_t i = 0; i < more.size(); ++i) {
    if (more[i] == "--firmware")
      ++i;
    else
      options.push_back(more[i]);
  }
  return wick_run(options);
}

// As UEFI stores it, in UTF-16.
std::string wide(std::string_view text) {
  std::string bytes;
  for (const char character : text) bytes += {character, '\0'};
  return bytes;
}

TEST(Uefi, BootsACdByGrubLong) {
  Process vm(from_cd());
  choose(vm, "r");
  const std::string before = vm.console().expect("wick-initrd: Linux ");
  EXPECT_EQ(complaints(before), "");
  expect_ending(vm, 0, "wick: the guest powered off");
}

TEST(Uefi, KeepsItsVariablesInAFileLong) {
  const TempDir dir;
  const std::string file = dir / "vars";
  for (int run = 0; run < 2; ++run) {
    SCOPED_TRACE(run);
    Process vm(from_cd({"--firmware", "uefi,vars=" + file}));
    choose(vm, "s");
    vm.console().expect("# ");
    EXPECT_THAT(read_file(file), HasSubstr(wide("BootOrder")));
    EXPECT_THAT(read_file(file), HasSubstr(wide("ConOut")));
    const std::string dmesg = run_in_guest(vm.console(), "dmesg");
    EXPECT_THAT(dmesg, HasSubstr("efi: EFI v2.7 by EDK II"));
    EXPECT_EQ(complaints(dmesg), "");
    vm.console().send("poweroff -f\n");
    expect_ending(vm, 0, "wick: the guest powered off");
  }
}

// The Boot Services are gone, and a reset starts them again with the same variables.
TEST(Uefi, StartsAgainAfterAResetLong) {
  Process vm(from_cd({"-c", "2"}));
  choose(vm, "s");
  vm.console().expect("# ");
  EXPECT_EQ(run_in_guest(vm.console(), "grep -c ^processor /proc/cpuinfo"), "2");
  vm.console().send("reboot -f\n");
  choose(vm, "r");
  vm.console().expect("wick-initrd: Linux ");
  expect_ending(vm, 0, "wick: the guest powered off");
}

TEST(Uefi, ControlOfQemuLong) {
  Process vm({"qemu-system-x86_64", "-accel", "kvm", "-M", "pc", "-cpu", "host", "-m", "256",
              "-nodefaults", "-display", "none", "-serial", "stdio", "-drive",
              "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-cdrom",
              image("grub-efi.iso")});
  choose(vm, "r");
  vm.console().expect("wick-initrd: Linux ");
  EXPECT_EQ(vm.wait(), 0);
}

}  // namespace
}  // namespace wick::lab
