// Unmodified stock kernels on the default machine and its variants: each finds its devices by
// itself, reports no faults, and powers off.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "tests/lab/vm.h"

namespace wick::lab {
namespace {

using testing::ContainsRegex;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

struct Variant {
  const char* flavour;  // in guest-images/out
  const char* transport;
  int cpus;
};

std::string name_of(const testing::TestParamInfo<Variant>& test) {
  const std::string flavour = std::string(test.param.flavour).substr(7);  // after "debian-"
  return fmt::format("{}_{}_{}", flavour, test.param.transport, test.param.cpus);
}

class StockKernel : public testing::TestWithParam<Variant> {};

// With a login on both consoles.
TEST_P(StockKernel, BootsAndPowersOff) {
  const Variant& variant = GetParam();
  const std::string kernel =
      fmt::format("{}/guest-images/out/{}/vmlinuz", WICK_SOURCE_DIR, variant.flavour);
  if (!exists(kernel)) GTEST_SKIP() << "guest-images/build debian found none";
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm(wick_run({"-k", kernel, "-i", "auto", "-a", "root=/dev/vda rw loglevel=4", "-d", disk,
                       "--transport", variant.transport, "-c", std::to_string(variant.cpus),
                       "--console", "unix:" + (dir / "hvc0")}));
  Dialogue& shell = vm.console();
  log_in(shell);
  EXPECT_EQ(run_in_guest(shell, "nproc"), std::to_string(variant.cpus));
  EXPECT_THAT(run_in_guest(shell, "mount"), HasSubstr("/dev/vda on / type ext4 (rw"));
  EXPECT_EQ(run_in_guest(shell, "cat /sys/devices/system/clocksource/*/current_clocksource"),
            "kvm-clock");

  // The count of at least one CPU is above zero.
  const std::string interrupts = run_in_guest(shell, "cat /proc/interrupts");
  const bool pci = variant.transport == std::string("pci");
  EXPECT_THAT(interrupts, ContainsRegex(pci ? "[1-9][0-9]* +[ 0-9]*PCI-MSI[^\n]*virtio[0-9]-req.0"
                                            : "[1-9][0-9]* +[ 0-9]*IO-APIC[^\n]*virtio0"));
  EXPECT_THAT(run_in_guest(shell, "cat /proc/cmdline"), Not(HasSubstr("virtio_mmio")));

  Dialogue hvc = Dialogue::connect(dir / "hvc0");
  (void)run_in_guest(shell, "(setsid getty -n -L 0 hvc0 vt100 </dev/null >/dev/null 2>&1 &)");
  log_in(hvc);
  EXPECT_EQ(run_in_guest(hvc, "tty"), "/dev/hvc0");
  EXPECT_EQ(run_in_guest(hvc, "dd if=/dev/hwrng bs=1k count=4 2>/dev/null | wc -c"), "4096");

  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  power_off(vm);
  expect_clean(disk);
}

constexpr const char* kCloud = "debian-cloud";
constexpr const char* kGeneric = "debian-generic";
constexpr const char* kNew = "debian-new";

INSTANTIATE_TEST_SUITE_P(Matrix, StockKernel, testing::Values(Variant{kCloud, "pci", 4}), name_of);

INSTANTIATE_TEST_SUITE_P(MatrixLong, StockKernel,
                         testing::Values(Variant{kCloud, "pci", 1}, Variant{kCloud, "pci", 2},
                                         Variant{kNew, "pci", 2}, Variant{kGeneric, "pci", 1},
                                         Variant{kGeneric, "pci", 2}, Variant{kGeneric, "pci", 4},
                                         Variant{kNew, "pci", 1}, Variant{kNew, "pci", 4},
                                         Variant{kCloud, "mmio", 1}, Variant{kCloud, "mmio", 2},
                                         Variant{kCloud, "mmio", 4}, Variant{kGeneric, "mmio", 1},
                                         Variant{kGeneric, "mmio", 2}, Variant{kGeneric, "mmio", 4},
                                         Variant{kNew, "mmio", 1}, Variant{kNew, "mmio", 2},
                                         Variant{kNew, "mmio", 4}),
                         [](const auto& test) { return name_of(test) + "_Long"; });

void expect_boots_again(int times) {
  const TempDir dir;
  Process vm(
      wick_run({"-k", image("bzImage"), "-d", alpine_disk(dir), "-c", "2", "-m", "128M", "-a",
                "quiet", "--on-reboot", "reset", "--console", "unix:" + (dir / "hvc0")}));
  Dialogue& console = vm.console();
  log_in(console);
  long first_kib = 0;
  for (int i = 0; i < times; ++i) {
    console.send("reboot\n");
    console.expect("Restarting system");
    log_in(console);
    // Without the guest's RAM, which the guest may fill.
    const long kib = vm.resident_kib(128 << 20);
    if (i == 0) first_kib = kib;
    EXPECT_LE(kib, first_kib + 256) << "after reset " << i + 1;
  }
  EXPECT_EQ(run_in_guest(console, "nproc"), "2");
  power_off(vm);
}

TEST(Reset, BootsAgain) { expect_boots_again(2); }
TEST(Reset, BootsAgainTenTimesAndTheMemoryDoesNotGrowLong) { expect_boots_again(10); }

TEST(Reset, PanicEndsTheRunAnyway) {
  const TempDir dir;
  Process vm(wick_run(
      {"-k", image("bzImage"), "-d", alpine_disk(dir), "-a", "quiet", "--on-reboot", "reset"}));
  log_in(vm.console());
  vm.console().send("echo c >/proc/sysrq-trigger\n");
  expect_ending(vm, 3, "wick: the guest's kernel panicked");
}

TEST(Reset, KernelThatIsGoneIsTheHostsFailure) {
  const TempDir dir;
  const std::string kernel = dir / "kernel";
  ASSERT_EQ(finish({"cp", image("bzImage"), kernel}).status, 0);
  Process vm(
      wick_run({"-k", kernel, "-d", alpine_disk(dir), "-a", "quiet", "--on-reboot", "reset"}));
  log_in(vm.console());
  ASSERT_EQ(finish({"rm", kernel}).status, 0);
  vm.console().send("reboot\n");
  expect_ending(vm, 1, "wick: the host failed: " + kernel + ": ");
}

TEST(Power, ButtonShutsAGuestWithAcpidDown) {
  for (const char* const transport : {"pci", "mmio"}) {
    const TempDir dir;
    const std::string disk = alpine_disk(dir);
    Process vm(
        wick_run({"-k", image("bzImage"), "-d", disk, "-a", "quiet", "--transport", transport}));
    log_in(vm.console());
    vm.signal(SIGPWR);
    expect_ending(vm, 0, "wick: the guest powered off");
    expect_clean(disk);
  }
}

TEST(Cpus, HaveAQueueOfADiskEach) {
  const TempDir dir;
  const std::string disk = alpine_disk(dir);
  Process vm(
      wick_run({"-k", image("bzImage"), "-d", disk + ",queues=2", "-a", "loglevel=4", "-c", "2"}));
  Dialogue& shell = vm.console();
  log_in(shell);
  EXPECT_EQ(run_in_guest(shell, "echo /sys/block/vda/mq/*"),
            "/sys/block/vda/mq/0 /sys/block/vda/mq/1");
  EXPECT_EQ(run_in_guest(shell, "grep -c 'virtio.*-req[.]' /proc/interrupts"), "2");
  const std::string sum = run_in_guest(
      shell,
      "for n in 0 1; do dd if=/dev/urandom of=/root/$n bs=1M count=4 conv=fsync 2>/dev/null & "
      "done; wait; cat /root/0 /root/1 | md5sum");
  EXPECT_EQ(run_in_guest(shell,
                         "echo 3 >/proc/sys/vm/drop_caches; cat /root/0 >/dev/null & "
                         "cat /root/1 >/dev/null; wait; cat /root/0 /root/1 | md5sum"),
            sum);
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  power_off(vm);
  expect_clean(disk);
}

TEST(Cpus, CanBeTakenOfflineAndBackByTheGuest) {
  const TempDir dir;
  Process vm(
      wick_run({"-k", image("bzImage"), "-d", alpine_disk(dir), "-a", "loglevel=4", "-c", "3"}));
  Dialogue& shell = vm.console();
  log_in(shell);
  const std::string cpu = "/sys/devices/system/cpu/cpu";
  for (int i = 0; i < 5; ++i) {
    (void)run_in_guest(shell, fmt::format("echo 0 >{0}1/online; echo 0 >{0}2/online", cpu));
    EXPECT_EQ(run_in_guest(shell, "nproc"), "1");
    (void)run_in_guest(shell, fmt::format("echo 1 >{0}2/online; echo 1 >{0}1/online", cpu));
    EXPECT_EQ(run_in_guest(shell, "nproc"), "3");
  }
  EXPECT_EQ(complaints(run_in_guest(shell, "dmesg")), "");
  power_off(vm);
}

// A guest that frees memory gives it back to the host.
TEST(Balloon, FreedMemoryGoesBackToTheHost) {
  const TempDir dir;
  Process vm(
      wick_run({"-k", image("bzImage"), "-d", alpine_disk(dir), "-a", "quiet", "-m", "512M"}));
  Dialogue& shell = vm.console();
  log_in(shell);
  (void)run_in_guest(shell, "mount -t tmpfs -o size=300m none /mnt");
  (void)run_in_guest(shell, "dd if=/dev/zero of=/mnt/a bs=1M count=250");
  const long full_kib = vm.resident_kib();
  EXPECT_GT(full_kib, 250 * 1024);
  (void)run_in_guest(shell, "rm /mnt/a");
  long kib = full_kib;
  for (int i = 0; i < 100 && kib > full_kib - 200 * 1024; ++i) {
    (void)vm.console().listen(100);
    kib = vm.resident_kib();
  }
  EXPECT_LE(kib, full_kib - 200 * 1024) << "after ten seconds";
  power_off(vm);
}

// A stock kernel's shell in its initramfs, on a machine with a name.
class StockShell : public testing::Test {
 protected:
  void SetUp() override { vm_.console().expect("# "); }
  std::string ask(const std::string& command) { return run_in_guest(vm_.console(), command); }
  void TearDown() override {
    vm_.console().send("poweroff -f\n");
    expect_ending(vm_, 0, "wick: the guest powered off");
  }

  Process vm_{wick_run(
      {"-k", image("debian-cloud/vmlinuz"), "-i", "auto", "-a", "wick.sh", "--name", "web1"})};
};

TEST_F(StockShell, KnowsWhatTheMachineIsCalled) {
  const std::string log = ask("dmesg");
  EXPECT_THAT(log, HasSubstr("DMI: wick Virtual Machine, BIOS 1"));
  EXPECT_THAT(log, Not(ContainsRegex("_OSC.*(fail|not request|retains)")));
  EXPECT_THAT(log, HasSubstr("_OSC: OS now controls [PCIeCapability]"));
  EXPECT_EQ(ask("cat /sys/class/dmi/id/product_serial"), "web1");
  EXPECT_THAT(ask("cat /sys/class/dmi/id/product_uuid"),
              ContainsRegex("^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-"));
  EXPECT_THAT(ask("cat /sys/devices/system/clocksource/clocksource0/available_clocksource"),
              HasSubstr("acpi_pm"));
}

TEST_F(StockShell, WakesFromSleepByTheClocksAlarm) {
  const std::string told =
      ask("echo +3 >/sys/class/rtc/rtc0/wakealarm; echo freeze >/sys/power/state; echo up");
  EXPECT_THAT(told, HasSubstr("suspend entry (s2idle)"));
  EXPECT_THAT(told, EndsWith("up"));
}

}  // namespace
}  // namespace wick::lab
