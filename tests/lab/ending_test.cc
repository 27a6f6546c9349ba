// How runs end: the exit status and the last line of each ending.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "tests/lab/tiny.h"

namespace wick::lab {
namespace {

using guests::Code;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

struct TinyRun {
  int status;
  std::string last_line;
  std::string err;
};

TinyRun run(const Code& code, const std::vector<std::string>& options = {}) {
  const TempDir dir;
  const Finished finished = finish(run_tiny(dir, code, options));
  return {finished.status, last_line(finished.err), finished.err};
}

Code panic_text() { return Code().print("[    1.0] Kernel panic - not syncing: on purpose\r\n"); }

// A shell in the initramfs: the fastest guest with a shell.
std::vector<std::string> initrd_shell() {
  return wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet wick.sh"});
}

auto HasEvidence() {
  return AllOf(HasSubstr("wick: vcpu0"), ContainsRegex("rip=[0-9a-f]{16}"),
               ContainsRegex("cr3=[0-9a-f]{16}"));
}

// --- 0 ----------------------------------------------------------------------

TEST(Ending, PowerOffIsZero) {
  const TinyRun ended = run(Code().print("bye\n").power_off());
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.err, "wick: the guest powered off\n");
}

TEST(Ending, RebootIsZeroAndSaysSo) {
  Process vm(initrd_shell());
  vm.console().expect("# ");
  vm.console().send("reboot -f\n");
  EXPECT_EQ(expect_ending(vm, 0, "wick: the guest rebooted"), "wick: the guest rebooted\n");
}

TEST(Ending, HaltForGoodIsZeroAndASleepingGuestIsNotHalted) {
  Process vm(initrd_shell());
  vm.console().expect("# ");
  EXPECT_EQ(run_in_guest(vm.console(), "sleep 4; echo awake"), "awake");
  vm.console().send("halt -f\n");
  expect_ending(vm, 0, "wick: the guest halted for good");
}

TEST(Ending, HaltWithInterruptsOffIsForGood) {
  const TinyRun ended = run(Code().print("bye\n").halt());
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.last_line, "wick: the guest halted for good");
}

TEST(Ending, SilentPowerOffIsZero) { EXPECT_EQ(run(Code().power_off()).status, 0); }

// --- by the debug-exit port ---------------------------------------------------

TEST(Ending, ByTheDebugExitPortHasTheStatusThatTheGuestWrote) {
  const TinyRun ended = run(Code().out8(0xf4, 0x10).spin(), {"--debug-exit", "0xf4"});
  EXPECT_EQ(ended.status, 33);
  EXPECT_EQ(ended.err,
            "wick: the guest ended the run with status 33: it wrote 0x10 to its debug-exit port\n");
  EXPECT_EQ(run(Code().out16(0x501, 0x7f).spin(), {"--debug-exit", "0x501"}).status, 255);
}

TEST(Ending, ByAPortThatIsNoDebugExitIsNone) {
  EXPECT_EQ(run(Code().out8(0xf4, 0x10).print("bye\n").power_off()).status, 0);
  const TinyRun refused = run(Code().power_off(), {"--debug-exit", "0x3f8"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.last_line, AllOf(HasSubstr("--debug-exit 0x3f8"), HasSubstr("overlaps ttyS0"),
                                       HasSubstr("choose other ports")));
}

// --- 1 and 2 ----------------------------------------------------------------

TEST(Ending, MissingKernelIsOne) {
  const Finished finished = finish(wick_run({"-k", "/nowhere/bzImage"}));
  EXPECT_EQ(finished.status, 1);
  EXPECT_EQ(lines(finished.err).size(), 1u) << finished.err;
  EXPECT_THAT(finished.err, AllOf(StartsWith("wick: "), HasSubstr("/nowhere/bzImage"),
                                  HasSubstr("No such file or directory"), HasSubstr("--kernel")));
}

TEST(Ending, BadOptionIsTwo) {
  const std::vector<std::vector<std::string>> wrong = {{"-k", "x", "--no-such-option"},
                                                       {"-k", "x", "-m", "lots"},
                                                       {"-k", "x", "-c", "0"},
                                                       {"-k", "x", "-d", "d,flavour=x"},
                                                       {"-k", "x", "-s", "nowhere"}};
  for (const auto& options : wrong) {
    const Finished finished = finish(wick_run(options));
    EXPECT_EQ(finished.status, 2) << finished.err;
    EXPECT_EQ(lines(finished.err).size(), 1u) << finished.err;
    EXPECT_THAT(finished.err, AllOf(StartsWith("wick: usage: "), HasSubstr("--help")));
  }
}

// --- 3 ----------------------------------------------------------------------

TEST(Ending, PanicIsThreeWithTheConsoleAndTheRegisters) {
  Process vm(wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "wick.sh"}));
  vm.console().expect("# ");
  vm.console().send("echo c >/proc/sysrq-trigger\n");
  const std::string errors = expect_ending(vm, 3, "wick: the guest's kernel panicked");
  EXPECT_THAT(errors,
              AllOf(HasSubstr("Kernel panic - not syncing: sysrq triggered crash"), HasEvidence()));
}

TEST(Ending, RootThatCannotBeMountedIsAPanic) {
  const TempDir dir;
  Process vm(wick_run({"-k", image("bzImage"), "-d", blank_disk(dir, "blank", 1 << 20)}));
  EXPECT_THAT(expect_ending(vm, 3, "wick: the guest's kernel panicked"),
              HasSubstr("VFS: Unable to mount root fs"));
}

TEST(Ending, MissingRootDeviceHasAHint) {
  const TempDir dir;
  Process vm(wick_run(
      {"-k", image("bzImage"), "-d", blank_disk(dir, "blank", 1 << 20), "-a", "root=/dev/vdz"}));
  EXPECT_THAT(expect_ending(vm, 3, "wick: the guest's kernel panicked"),
              ContainsRegex("wick: hint: the kernel did not find the root device .*: vda\n"));
}

TEST(Ending, DiskWithoutADriverHasAHint) {
  const TempDir dir;
  Process vm(
      wick_run({"-k", image("debian-cloud/vmlinuz"), "-d", blank_disk(dir, "blank", 1 << 20)}));
  EXPECT_THAT(
      expect_ending(vm, 3, "wick: the guest's kernel panicked"),
      HasSubstr("wick: hint: the kernel did not find its root device: it has no built-in driver"));
}

TEST(Ending, InitThatEndsHasAHint) {
  Process vm(
      wick_run({"-k", image("bzImage"), "-i", image("initrd.gz"), "-a", "quiet rdinit=/bin/sh"}));
  vm.console().expect("# ");
  vm.console().send("exit 7\n");
  EXPECT_THAT(expect_ending(vm, 3, "wick: the guest's kernel panicked"),
              HasSubstr("wick: hint: the guest's init ended with status 7\n"));
}

TEST(Ending, PanicTextOfAUserBeforeAnOrderlyRebootIsNotAPanic) {
  Process vm(initrd_shell());
  vm.console().expect("# ");
  vm.console().send("echo Kernel panic - not syncing; reboot -f\n");
  expect_ending(vm, 0, "wick: the guest rebooted");
}

TEST(Ending, PanicTextThenResetIsThree) {
  const TinyRun ended = run(panic_text().reset());
  EXPECT_EQ(ended.status, 3);
  EXPECT_EQ(ended.last_line, "wick: the guest's kernel panicked");
  EXPECT_THAT(ended.err, AllOf(HasSubstr("not syncing: on purpose\n"), HasEvidence()));
}

TEST(Ending, PanicTextThenHaltOrTripleFaultIsThree) {
  EXPECT_EQ(run(panic_text().halt()).status, 3);
  EXPECT_EQ(run(panic_text().triple_fault()).status, 3);
}

TEST(Ending, KernelThatDiesSilentlyIsThree) {
  const TinyRun halted = run(Code().halt());
  EXPECT_EQ(halted.status, 3);
  EXPECT_EQ(halted.last_line, "wick: the guest halted for good without having written anything");
  EXPECT_THAT(halted.err, AllOf(HasSubstr("the console showed nothing"), HasEvidence(),
                                HasSubstr("wick: hint: -a earlyprintk=serial,ttyS0 shows")));
  EXPECT_EQ(run(Code().halt(), {"-c", "2"}).status, 3);
  // Resets by the keyboard controller, the chipset and ACPI.
  for (const Code& reset : {Code().reset(), Code().out8(0xcf9, 6).spin(),
                            Code().out8(guests::kAcpiControlPort + 2, 1).spin()}) {
    const TinyRun rebooted = run(reset);
    EXPECT_EQ(rebooted.status, 3);
    EXPECT_EQ(rebooted.last_line, "wick: the guest rebooted without having written anything");
  }
}

TEST(Ending, OutputOnAnyConsoleCounts) {
  EXPECT_EQ(run(Code().print("x", 0x2f8).halt(), {"-s", "stdio", "-s", "null"}).status, 0);
}

TEST(Ending, LastMessagesOfAKernelThatCannotPanicYetAreThree) {
  EXPECT_EQ(run(Code().print("PANIC: early exception 0x0d IP 10:0\n").halt()).status, 3);
  EXPECT_EQ(run(Code().print("Out of memory\n\n -- System halted").halt()).status, 3);
}

TEST(Ending, PanicTextAloneEndsNothing) {
  const TinyRun off = run(panic_text().print("still here\n").power_off());
  EXPECT_EQ(off.status, 0);
  EXPECT_EQ(off.last_line, "wick: the guest powered off");
  EXPECT_EQ(run(panic_text().spin(), {"--timeout", "1"}).status, 5);
}

// --- 4, 5, 6 ----------------------------------------------------------------

TEST(Ending, TripleFaultIsFourWithTheLastConsoleLines) {
  Code code;
  for (int i = 1; i <= 30; ++i) code.print(fmt::format("line {} of 30\n", i));
  const TinyRun ended = run(code.triple_fault());
  EXPECT_EQ(ended.status, 4);
  EXPECT_THAT(ended.last_line, StartsWith("wick: triple fault in the guest"));
  // The last twenty lines, and the registers with the right heading.
  EXPECT_THAT(ended.err, AllOf(Not(HasSubstr("line 10 of 30")), HasSubstr("line 11 of 30"),
                               HasSubstr("line 30 of 30"), HasEvidence(),
                               HasSubstr("wick: vcpu0, last known before the fault:\n"),
                               HasSubstr("write of 1 byte to port 0x3f8 (ttyS0 THR), 16 times"),
                               ContainsRegex("wick: vcpu0, (after|at) the fault")));
}

TEST(Ending, TripleFaultBeforeAnyOutputIsFour) {
  for (const bool pvh : {false, true}) {
    SCOPED_TRACE(pvh);
    const TempDir dir;
    const Code code = Code().triple_fault();
    write_file(dir / "kernel", pvh ? guests::pvh_elf(code) : guests::bzimage(code));
    const Finished finished = finish(wick_run({"-k", dir / "kernel"}));
    EXPECT_EQ(finished.status, 4);
    EXPECT_THAT(finished.err, HasSubstr("the console showed nothing"));
  }
}

TEST(Ending, TimeoutIsFiveAndSaysWhatTheGuestWasDoing) {
  const std::vector<std::string> limit = {"--timeout", "1.5"};
  const TinyRun running = run(Code().print("looping\n").spin(), limit);
  EXPECT_EQ(running.status, 5);
  EXPECT_THAT(running.last_line, AllOf(StartsWith("wick: the time ran out"), HasSubstr("running"),
                                       Not(HasSubstr("never written"))));
  EXPECT_THAT(running.err, AllOf(HasSubstr("looping\n"), HasEvidence()));

  const TinyRun halted = run(Code().print("waiting\n").enable_interrupts().halt(), limit);
  EXPECT_EQ(halted.status, 5);
  EXPECT_THAT(halted.last_line, AllOf(HasSubstr("halted"), Not(HasSubstr("never written"))));

  const TinyRun silent = run(Code().spin(), limit);
  EXPECT_EQ(silent.status, 5);
  EXPECT_THAT(silent.last_line, AllOf(HasSubstr("running"), HasSubstr("never written anything")));
  EXPECT_THAT(silent.err, HasSubstr("wick: hint: -a earlyprintk=serial,ttyS0 shows"));

  const TinyRun silent_and_halted = run(Code().enable_interrupts().halt(), limit);
  EXPECT_EQ(silent_and_halted.status, 5);
  EXPECT_THAT(silent_and_halted.last_line,
              AllOf(HasSubstr("halted"), HasSubstr("never written anything")));
}

TEST(Ending, CodeOutsideOfMemoryIsSixWithRegisters) {
  const TinyRun ended = run(Code().print("jumping\n").jump_to_address(guests::kUnbacked));
  EXPECT_EQ(ended.status, 6);
  EXPECT_THAT(ended.last_line, StartsWith("wick: KVM could not go on"));
  EXPECT_THAT(ended.err, AllOf(HasEvidence(), HasSubstr("jumping\n"),
                               HasSubstr(fmt::format("rip={:016x}", guests::kUnbacked))));
}

// --- signals ----------------------------------------------------------------

class EndingSignal : public testing::TestWithParam<int> {};

TEST_P(EndingSignal, IsItsNumberAnd128) {
  const TempDir dir;
  for (const Code& code :
       {Code().print("up").spin(), Code().print("up").enable_interrupts().halt()}) {
    Process vm(run_tiny(
        dir, code, {"-d", blank_disk(dir, "disk", 1 << 20), "-s", "stdio,log=" + (dir / "log")}));
    vm.console().expect("up");
    vm.signal(GetParam());
    EXPECT_EQ(
        expect_ending(vm, 128 + GetParam(), "wick: ended by signal"),
        fmt::format("wick: ended by signal {} (SIG{})\n", GetParam(), ::sigabbrev_np(GetParam())));
  }
}

INSTANTIATE_TEST_SUITE_P(Ending, EndingSignal, testing::Values(SIGINT, SIGTERM, SIGHUP, SIGQUIT),
                         [](const auto& test) { return std::string(::sigabbrev_np(test.param)); });

// --- others -----------------------------------------------------------------

TEST(Verbose, PrintsTheCommandLine) {
  const TinyRun ended = run(Code().reset(), {"-v", "-a", "some words"});
  EXPECT_THAT(ended.err, HasSubstr("command line: console=ttyS0 panic=-1 reboot=k some words\n"));
}

TEST(TinyKernel, BootsByBothProtocols) {
  const TempDir dir;
  const Code code = Code().print("hello\n").reset();
  write_file(dir / "bzimage", guests::bzimage(code));
  write_file(dir / "elf", guests::pvh_elf(code));
  for (const char* name : {"bzimage", "elf"}) {
    const Finished finished = finish(wick_run({"-k", dir / name}));
    EXPECT_EQ(finished.status, 0) << finished.err;
    EXPECT_EQ(finished.out, "hello\n");
  }
}

}  // namespace
}  // namespace wick::lab
