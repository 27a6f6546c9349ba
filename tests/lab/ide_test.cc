// Disks and CD-ROM drives on the emulated IDE controller.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::AnyOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kMiB = 1 << 20;

// IRQ 14 has occurred, and is edge-triggered.
constexpr const char* kInterruptsCame = " 14: [^\n]*[1-9][0-9]* +[ 0-9]*IO-APIC +14-edge +ata_piix";

std::string md5_of(const std::string& path) {
  return finish({"sh", "-c", "md5sum <" + path}).out.substr(0, 32);
}

// Makes an ISO of a few files with long names, one of `large_bytes`.
std::string make_iso(const TempDir& dir, uint64_t large_bytes = 3'000'001) {
  const std::string tree = dir / "tree";
  std::filesystem::create_directories(tree + "/a folder/below");
  write_file(tree + "/read.me", "from the CD-ROM\n");
  write_file(tree + "/a folder/below/empty", "");
  const Finished filled = finish(
      {"sh", "-c",
       fmt::format("cd '{}' && head -c {} /dev/urandom >large && "
                   "head -c 77777 /dev/urandom >'a folder/another file with a long name.bin'",
                   tree, large_bytes)});
  EXPECT_EQ(filled.status, 0) << filled.err;
  const Finished made =
      finish({"genisoimage", "-quiet", "-r", "-J", "-V", "WICK", "-o", dir / "cd.iso", tree});
  if (made.status != 0) give_up("genisoimage: " + made.err);
  return dir / "cd.iso";
}

// Checks in the guest that the disc has the same files as `dir`/tree, and the same blocks as the
// ISO.
void expect_same_disc(Dialogue& shell, const TempDir& dir) {
  (void)run_in_guest(shell, "mkdir -p /tmp/cd && mount -t iso9660 -o ro /dev/sr0 /tmp/cd");
  const Finished here = finish(
      {"sh", "-c", "cd '" + (dir / "tree") + "' && find . -type f | sort | xargs -d '\\n' md5sum"});
  EXPECT_EQ(run_in_guest(shell,
                         "cd /tmp/cd && find . -type f | sort | tr '\\n' '\\0' | "
                         "xargs -0 md5sum; cd /") +
                "\n",
            here.out);
  EXPECT_EQ(run_in_guest(shell, "md5sum </dev/sr0").substr(0, 32), md5_of(dir / "cd.iso"));
  EXPECT_NE(ask(shell, "touch /tmp/cd/new").status, 0);
  EXPECT_NE(ask(shell, "dd if=/dev/zero of=/dev/sr0 bs=2048 count=1").status, 0);
}

void expect_quiet(Dialogue& shell) {
  const std::string log = run_in_guest(shell, "dmesg");
  EXPECT_EQ(complaints(log), "");
  EXPECT_THAT(log, Not(ContainsRegex("ata[0-9.]*: (exception|failed|soft resetting|limiting)")));
}

TEST(Ide, HasTheGuestsFilesAfterAPowerOff) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm(wick_run({"-k", image("bzImage"), "-a", "quiet", "-d", disk + ",device=ide"}));
  Dialogue& shell = vm.console();
  log_in(shell);
  EXPECT_THAT(run_in_guest(shell, "cat /proc/cmdline"), HasSubstr(" root=/dev/sda rw "));
  (void)run_in_guest(shell,
                     "echo written-by-the-guest >/root/note; "
                     "dd if=/dev/urandom of=/root/large bs=1M count=8");
  const std::string sum = run_in_guest(shell, "md5sum </root/large").substr(0, 32);
  EXPECT_THAT(run_in_guest(shell, "cat /proc/interrupts"), ContainsRegex(kInterruptsCame));
  EXPECT_THAT(run_in_guest(shell, "dmesg"), HasSubstr("PATA max UDMA/33 cmd 0x1f0"));
  expect_quiet(shell);
  power_off(vm);
  expect_clean(disk);
  EXPECT_EQ(file_in_image(disk, "/root/note"), "written-by-the-guest\n");
  EXPECT_EQ(finish({"debugfs", "-R", "dump /root/large " + (dir / "large"), disk}).status, 0);
  EXPECT_EQ(md5_of(dir / "large"), sum);
}

TEST(Ide, HasTheSameDiskAsVirtioLong) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  std::string sum;
  for (const char* const device : {"virtio", "ide", "virtio"}) {
    Process vm(wick_run(
        {"-k", image("bzImage"), "-a", "quiet", "-d", fmt::format("{},device={}", disk, device)}));
    log_in(vm.console());
    if (!sum.empty()) {
      EXPECT_EQ(run_in_guest(vm.console(), "md5sum </root/large").substr(0, 32), sum) << device;
    }
    (void)run_in_guest(vm.console(), "dd if=/dev/urandom of=/root/large bs=1M count=4");
    sum = run_in_guest(vm.console(), "md5sum </root/large").substr(0, 32);
    power_off(vm);
    expect_clean(disk);
  }
}

// Transfers by ports (PIO), a driver's fallback.
TEST(Ide, WorksWithoutDmaLong) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm(wick_run({"-k", image("bzImage"), "-a", "quiet libata.dma=0", "-d",
                       disk + ",device=ide", "--cdrom", make_iso(dir, 300'001)}));
  Dialogue& shell = vm.console();
  log_in(shell);
  EXPECT_THAT(run_in_guest(shell, "cat /sys/class/ata_device/dev1.0/xfer_mode"), HasSubstr("PIO"));
  (void)run_in_guest(shell, "dd if=/dev/urandom of=/root/large bs=64k count=8; sync");
  const std::string sum = run_in_guest(shell, "md5sum </root/large").substr(0, 32);
  expect_same_disc(shell, dir);
  power_off(vm);
  expect_clean(disk);
  EXPECT_EQ(finish({"debugfs", "-R", "dump /root/large " + (dir / "large"), disk}).status, 0);
  EXPECT_EQ(md5_of(dir / "large"), sum);
}

TEST(Ide, HasTwoDisksAndACdromAtOnce) {
  const TempDir dir;
  const std::string data = blank_disk(dir, "data", 16 * kMiB);
  Process vm(
      wick_run({"-k", image("bzImage"), "-a", "quiet", "-d", alpine_disk(dir) + ",device=ide", "-d",
                data + ",device=ide,serial=second", "--cdrom", make_iso(dir), "-c", "2"}));
  Dialogue& shell = vm.console();
  log_in(shell);
  EXPECT_EQ(run_in_guest(
                shell, "dmesg | sed -n 's/.*\\(ata[12]\\.0[01]: .*wick [^,]*\\),.*/\\1/p' | sort"),
            "ata1.00: ATA-6: wick disk\nata1.01: ATA-6: wick disk\nata2.00: ATAPI: wick CD-ROM");
  (void)run_in_guest(shell,
                     "(dd if=/dev/urandom of=/dev/sdb bs=1M count=8 conv=fsync 2>/dev/null & "
                     "md5sum /dev/sr0 & dd if=/dev/sda of=/dev/null bs=1M count=16 & wait)");
  EXPECT_EQ(run_in_guest(shell, "dd if=/dev/sdb bs=1M count=8 2>/dev/null | md5sum").substr(0, 32),
            finish({"sh", "-c", "head -c 8M '" + data + "' | md5sum"}).out.substr(0, 32));
  expect_same_disc(shell, dir);
  expect_quiet(shell);
  power_off(vm);
}

TEST(Ide, DiskThatCannotBeWrittenIsAnErrorInTheGuest) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm(
      wick_run({"-k", image("bzImage"), "-a", "quiet", "-d", disk + ",device=ide,readonly=on"}));
  log_in(vm.console());
  EXPECT_THAT(run_in_guest(vm.console(), "cat /proc/cmdline"), HasSubstr(" root=/dev/sda ro "));
  EXPECT_NE(ask(vm.console(), "dd if=/dev/zero of=/dev/sda bs=512 count=1 conv=fsync").status, 0);
  EXPECT_EQ(ask(vm.console(), "cat /etc/hostname").output, "alpine");
  power_off(vm);
  EXPECT_EQ(finish({"cmp", disk, alpine_disk(dir, "before")}).status, 0);
}

TEST(Ide, ComesBackAfterAReset) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm(wick_run(
      {"-k", image("bzImage"), "-a", "quiet", "-d", disk + ",device=ide", "--on-reboot", "reset"}));
  log_in(vm.console());
  expect_quiet(vm.console());
  vm.console().send("reboot\n");
  vm.console().expect("Restarting system");
  log_in(vm.console());
  expect_quiet(vm.console());
  power_off(vm);
  expect_clean(disk);
}

TEST(Ide, IsSoundAfterSigtermDuringWrites) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm(wick_run({"-k", image("bzImage"), "-a", "quiet", "-d", disk + ",device=ide"}));
  log_in(vm.console());
  (void)run_in_guest(vm.console(), "echo flushed >/root/kept && sync");
  (void)run_in_guest(vm.console(),
                     "{ while :; do dd if=/dev/urandom of=/root/$RANDOM bs=64k count=32; "
                     "rm -f /root/*1* /root/*3*; sync; done & } 2>/dev/null");
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  vm.signal(SIGTERM);
  expect_ending(vm, 143, "wick: ended by signal 15 (SIGTERM)");
  const Finished replay = finish({"e2fsck", "-p", disk});
  EXPECT_THAT(replay.status, AnyOf(0, 1)) << replay.out << replay.err;
  expect_clean(disk);
  EXPECT_EQ(file_in_image(disk, "/root/kept"), "flushed\n");
}

// The drivers of a stock kernel are modules.
void expect_stock_kernel_works(const std::string& flavour) {
  const std::string kernel =
      fmt::format("{}/guest-images/out/{}/vmlinuz", WICK_SOURCE_DIR, flavour);
  if (!exists(kernel)) GTEST_SKIP() << "guest-images/build debian found none";
  const TempDir dir;
  const std::string data = blank_disk(dir, "data", 32 * kMiB);
  ASSERT_EQ(finish({"mke2fs", "-q", "-t", "ext4", data}).status, 0);
  Process vm(wick_run({"-k", kernel, "-i", "auto", "-a", "root=/dev/vda rw loglevel=4", "-d",
                       alpine_disk(dir), "-d", data + ",device=ide", "--cdrom", make_iso(dir), "-c",
                       "2"}));
  Dialogue& shell = vm.console();
  log_in(shell);
  (void)run_in_guest(shell, "mkdir /tmp/data && mount /dev/sda /tmp/data");
  (void)run_in_guest(shell, "dd if=/dev/urandom of=/tmp/data/file bs=1M count=8 && sync");
  const std::string sum = run_in_guest(shell, "md5sum </tmp/data/file").substr(0, 32);
  expect_same_disc(shell, dir);
  EXPECT_THAT(run_in_guest(shell, "cat /proc/interrupts"), ContainsRegex(kInterruptsCame));
  expect_quiet(shell);
  (void)run_in_guest(shell, "umount /tmp/data");
  power_off(vm);
  expect_clean(data);
  EXPECT_EQ(finish({"debugfs", "-R", "dump /file " + (dir / "file"), data}).status, 0);
  EXPECT_EQ(md5_of(dir / "file"), sum);
}

TEST(Ide, StockDebianKernelUsesADiskAndACdromLong) { expect_stock_kernel_works("debian-generic"); }

TEST(Ide, NewerDebianKernelUsesADiskAndACdromLong) { expect_stock_kernel_works("debian-new"); }

}  // namespace
}  // namespace wick::lab
