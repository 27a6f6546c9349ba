// A guest's view of the machine: one Alpine on stdio with four disks, booted once for all tests
// of this file.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <ctime>
#include <memory>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::ContainsRegex;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr uint64_t kMiB = 1 << 20;

class AlpineGuest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = std::make_unique<TempDir>();
    vm_ = std::make_unique<Process>(
        wick_run({"-k", image("bzImage"), "-m", "256M", "-a", "loglevel=4 lab.word=appended", "-d",
                  alpine_disk(*dir_), "-d", blank_disk(*dir_, "b", 64 * kMiB) + ",serial=second",
                  "-d", blank_disk(*dir_, "c", 5 * kMiB) + ",readonly=on", "-d",
                  blank_disk(*dir_, "d", 7 * kMiB + 512) + ",serial=twenty-bytes-serial-"}));
    log_in(vm_->console());
  }

  static void TearDownTestSuite() {
    vm_.reset();
    dir_.reset();
  }

  void SetUp() override { ASSERT_TRUE(vm_ && vm_->running()); }
  void TearDown() override {
    if (HasFailure()) vm_->show();
  }

  static std::string run(const std::string& command) {
    return run_in_guest(vm_->console(), command);
  }
  static Answer try_run(const std::string& command) { return ask(vm_->console(), command); }

  // The file's space on the host.
  static uint64_t allocated_bytes(const std::string& name) {
    struct stat status {};
    EXPECT_EQ(::stat((*dir_ / name).c_str(), &status), 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }

  static inline std::unique_ptr<TempDir> dir_;
  static inline std::unique_ptr<Process> vm_;
};

TEST_F(AlpineGuest, LetsRootLogIn) {
  EXPECT_EQ(run("whoami"), "root");
  EXPECT_THAT(run("uname -a"), StartsWith("Linux alpine 6.1."));
}

TEST_F(AlpineGuest, GetsTheGeneratedCommandLineAndWhatIsAppended) {
  const std::string cmdline = run("cat /proc/cmdline");
  for (const char* word : {"console=ttyS0", "root=/dev/vda", "rw", "panic=-1", "reboot=k"})
    EXPECT_THAT(" " + cmdline + " ", HasSubstr(fmt::format(" {} ", word)));
  EXPECT_THAT(cmdline, EndsWith("loglevel=4 lab.word=appended"));
}

TEST_F(AlpineGuest, HasTheHostsTime) {
  const std::time_t before = std::time(nullptr);
  const std::time_t guest = std::stol(run("date +%s"));
  const std::time_t after = std::time(nullptr);
  // The clock chip counts whole seconds, and the kernel reads it once.
  EXPECT_GE(guest, before - 3);
  EXPECT_LE(guest, after + 3);
}

TEST_F(AlpineGuest, ReportsNoFaultsOfTheMachine) {
  EXPECT_EQ(complaints(run("dmesg | grep -iE 'acpi|warn|bug|oops|trace|error|virtio'")), "");
}

TEST_F(AlpineGuest, GetsInterruptsFromEachDevice) {
  (void)run(
      "dd if=/dev/vdb of=/dev/null bs=4k count=1; dd if=/dev/vdc of=/dev/null bs=4k count=1;"
      "dd if=/dev/vdd of=/dev/null bs=4k count=1");
  const std::string interrupts = run("cat /proc/interrupts");
  EXPECT_THAT(interrupts, ContainsRegex("[1-9][0-9]* +IO-APIC[^\n]*ttyS0"));
  for (int i = 2; i < 6; ++i)  // after the entropy device and the balloon
    EXPECT_THAT(interrupts,
                ContainsRegex(fmt::format("[1-9][0-9]* +PCI-MSI[^\n]*virtio{}-req", i)));
}

TEST_F(AlpineGuest, FindsItsVirtioDevicesOnPci) {
  const std::string devices = run("ls /sys/bus/pci/drivers/virtio-pci");
  for (const char* slot : {"01", "03", "08", "09", "0a", "0b"})
    EXPECT_THAT(devices, HasSubstr(fmt::format("0000:00:{}.0", slot)));
}

TEST_F(AlpineGuest, HasItsDisksInTheOrderOfTheCommandLine) {
  EXPECT_EQ(run("cat /sys/block/vd?/size"),
            fmt::format("{}\n{}\n{}\n{}", 256 * kMiB / 512, 64 * kMiB / 512, 5 * kMiB / 512,
                        7 * kMiB / 512 + 1));
  EXPECT_EQ(run("cat /sys/block/vd?/ro"), "0\n0\n1\n0");
}

TEST_F(AlpineGuest, SeesTheSerialNumbersOfItsDisks) {
  EXPECT_EQ(run("cat /sys/block/vdb/serial"), "second");
  EXPECT_EQ(run("cat /sys/block/vdd/serial"), "twenty-bytes-serial-");
  EXPECT_EQ(run("cat /sys/block/vda/serial"), "");
}

TEST_F(AlpineGuest, WritesToTheRightSectors) {
  (void)run("echo at-the-end | dd of=/dev/vdd bs=512 seek=14336 conv=fsync");
  (void)run("echo at-its-end | dd of=/dev/vdb bs=512 seek=131071 conv=fsync");
  EXPECT_THAT(read_file(*dir_ / "d", 14336 * 512), StartsWith("at-the-end\n"));
  EXPECT_THAT(read_file(*dir_ / "b", 131071 * 512), StartsWith("at-its-end\n"));
}

TEST_F(AlpineGuest, CannotWriteToAReadOnlyDisk) {
  EXPECT_NE(try_run("dd if=/dev/urandom of=/dev/vdc bs=512 count=1 conv=fsync").status, 0);
  EXPECT_EQ(read_file(*dir_ / "c"), std::string(5 * kMiB, '\0'));
}

TEST_F(AlpineGuest, GivesSpaceBackToTheHostByDiscard) {
  (void)run("dd if=/dev/zero of=/dev/vdb bs=1M count=16 conv=fsync");
  EXPECT_GE(allocated_bytes("b"), 16 * kMiB);
  (void)run("blkdiscard /dev/vdb");
  EXPECT_LE(allocated_bytes("b"), kMiB);
  EXPECT_EQ(run("dd if=/dev/vdb bs=1M count=16 2>/dev/null | tr -d '\\0' | wc -c"), "0");
}

TEST_F(AlpineGuest, GivesSpaceBackToTheHostByFstrim) {
  (void)run("dd if=/dev/zero of=/root/large bs=1M count=24 && sync");
  const uint64_t full = allocated_bytes("alpine.ext4");
  (void)run("rm /root/large && sync && fstrim /");
  EXPECT_LE(allocated_bytes("alpine.ext4"), full - 23 * kMiB);
}

TEST_F(AlpineGuest, KeepsItsDataThroughManyRequestsAtOnce) {
  // Five writers and readers side by side, then all read again from the disk.
  (void)run(
      "cd /root && mkdir many && for i in 1 2 3 4 5; do "
      "(dd if=/dev/urandom of=many/$i bs=64k count=48; md5sum many/$i >>sums) & done "
      "2>/dev/null; wait; sync; echo 3 >/proc/sys/vm/drop_caches");
  EXPECT_THAT(run("md5sum -c sums | grep -c OK"), "5");
  (void)run("rm -r many sums");
}

}  // namespace
}  // namespace wick::lab
