// The interval timer, which wick creates in KVM only when a guest starts a counter, answers as
// QEMU's does, which has KVM's from the start.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/tiny.h"

namespace wick::lab {
namespace {

using guests::Code;

constexpr uint16_t kCounter0 = 0x40;
constexpr uint16_t kCounter2 = 0x42;
constexpr uint16_t kControl = 0x43;
constexpr uint16_t kPort61 = 0x61;
constexpr uint8_t kStatusOfCounter0 = 0xe2;
constexpr uint8_t kStatusOfCounter2 = 0xe8;

// Sends the value of a port.
void report(Code& code, uint16_t port) { code.in8(port).out_al(guests::kSerialPort); }

// Waits until interrupt 0 is requested from the PIC, for which the CPU need not take it.
void await_interrupt(Code& code) {
  constexpr uint16_t kPic = 0x20;
  constexpr uint8_t kReadRequests = 0x0a;  // OCW3
  const auto again = code.here();
  code.out8(kPic, kReadRequests).in8(kPic).jump_unless_bits(1, again);
  code.print("I");
}

// What the guest writes to ttyS0 under wick, and under QEMU, each of which ends by a triple
// fault.
struct Outputs {
  std::string wick;
  std::string qemu;
};
Outputs run_both(const Code& code) {
  const TempDir dir;
  write_file(dir / "tiny", guests::pvh_elf(Code(code).triple_fault()));
  const Finished ours = finish(
      wick_run({"-k", dir / "tiny", "-m", "32M", "-s", "file:" + dir / "wick", "--timeout", "20"}));
  EXPECT_EQ(ours.status, 4) << ours.err;
  finish({"timeout", "60", "qemu-system-x86_64", "-accel", "kvm", "-M", "pc", "-m", "32",
          "-nodefaults", "-no-reboot", "-display", "none", "-serial", "file:" + dir / "qemu",
          "-kernel", dir / "tiny"});
  return {read_file(dir / "wick"), read_file(dir / "qemu")};
}

TEST(Pit, AnswersAsQemusInEachMode) {
  for (uint8_t mode = 0; mode <= 5; ++mode) {
    Code code;
    code.print("<").out8(kPort61, 0);
    report(code, kPort61);  // the refresh bit is masked below
    code.out8(kControl, static_cast<uint8_t>(0xb0 | mode << 1));
    code.out8(kCounter2, 0xff).out8(kCounter2, 0xff);
    code.out8(kPort61, 1);  // the gate opens
    report(code, kPort61);
    code.out8(kControl, kStatusOfCounter2);
    report(code, kCounter2);
    code.out8(kControl, 0x80).in8(kCounter2);  // latches; the low byte changes quickly
    report(code, kCounter2);
    code.print(">");
    Outputs outputs = run_both(code);
    ASSERT_EQ(outputs.wick.size(), 6u);
    ASSERT_EQ(outputs.qemu.size(), 6u);
    for (std::string* text : {&outputs.wick, &outputs.qemu})
      for (const size_t refresh : {1, 2}) text->at(refresh) &= static_cast<char>(~0x10);
    EXPECT_EQ(outputs.wick.substr(0, 4), outputs.qemu.substr(0, 4)) << "mode " << +mode;
    // A count of 65535 takes 55 ms; a lab has less than a quarter of that between two exits.
    EXPECT_GE(static_cast<uint8_t>(outputs.wick[4]), 0x80) << "mode " << +mode;
  }
}

TEST(Pit, InterruptsInEachModeThatBeginsByItself) {
  for (const int mode : {0, 2, 3, 4}) {
    Code code;
    code.out8(kControl, static_cast<uint8_t>(0x30 | mode << 1));
    code.out8(kCounter0, 0x00).out8(kCounter0, 0x10);
    await_interrupt(code);
    code.out8(kControl, kStatusOfCounter0);
    report(code, kCounter0);
    const Outputs outputs = run_both(code);
    ASSERT_EQ(outputs.wick.size(), 2u) << "mode " << +mode;
    ASSERT_EQ(outputs.qemu.size(), 2u) << "mode " << +mode;
    EXPECT_EQ(outputs.wick[1] & 0x3f, outputs.qemu[1] & 0x3f);
  }
}

// How newer kernels stop the timer: wick serves this itself.
TEST(Pit, InterruptsAfterTheLongestCountOfMode0) {
  Code code;
  code.out8(kControl, 0x30).out8(kCounter0, 0).out8(kCounter0, 0);
  await_interrupt(code);
  EXPECT_EQ(run_both(code).wick, "I");
}

// Calibration as in Linux's pit_calibrate_tsc(): counter 2 in mode 0, polled by port 0x61.
TEST(Pit, EndsACountOfCounter2) {
  Code code;
  code.in8(kPort61).out8(kPort61, 1).out8(kControl, 0xb0);
  code.out8(kCounter2, 0x9b).out8(kCounter2, 0x2e);  // 10 ms
  const auto again = code.here();
  code.in8(kPort61).jump_unless_bits(0x20, again).print("T");
  const Outputs outputs = run_both(code);
  EXPECT_EQ(outputs.wick, "T");
  EXPECT_EQ(outputs.qemu, "T");
}

// Linux without any other clock: it calibrates its TSC by counter 2, and counter 0 ticks.
TEST(Pit, IsTheClockOfAKernelWithoutAnother) {
  Process vm(wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a",
                       "wick.sh nolapic noapic no-kvmclock"}));
  Dialogue& shell = vm.console();
  shell.expect("# ");
  EXPECT_THAT(run_in_guest(shell, "dmesg"), testing::ContainsRegex("tsc: .*PIT"));
  const auto ticks = [&] {
    return std::stoull(run_in_guest(shell, "awk '$1 == \"0:\" { print $2 }' /proc/interrupts"));
  };
  const auto before = ticks();
  (void)run_in_guest(shell, "sleep 1");
  EXPECT_GE(ticks(), before + 10);
  shell.send("poweroff -f\n");
  expect_ending(vm, 0, "wick: the guest powered off");
}

}  // namespace
}  // namespace wick::lab
