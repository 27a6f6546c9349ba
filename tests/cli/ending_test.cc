#include "cli/ending.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

namespace wick::cli {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

vmm::RunReport report_of(vmm::Ending ending, std::string detail = "") {
  vmm::RunReport report;
  report.ending = ending;
  report.detail = std::move(detail);
  report.console_lines = {"first line", "last line"};
  report.cpus = {{"rip 1\nrsp 2\n", "write to port 1\n"}, {"rip 3", "no exit\n"}};
  return report;
}

TEST(ExitStatus, IsThatOfTheInterface) {
  EXPECT_EQ(exit_status(report_of(vmm::Ending::kPoweredOff)), 0);
  EXPECT_EQ(exit_status(report_of(vmm::Ending::kRebooted)), 0);
  EXPECT_EQ(exit_status(report_of(vmm::Ending::kHalted)), 0);
  EXPECT_EQ(exit_status(report_of(vmm::Ending::kQuit)), 0);
  EXPECT_EQ(exit_status(report_of(vmm::Ending::kHostFailed)), 1);
  EXPECT_EQ(exit_status(report_of(vmm::Ending::kPanicked)), 3);
  EXPECT_EQ(exit_status(report_of(vmm::Ending::kTripleFault)), 4);
  EXPECT_EQ(exit_status(report_of(vmm::Ending::kTimeout)), 5);
  EXPECT_EQ(exit_status(report_of(vmm::Ending::kKvmError)), 6);
}

TEST(ExitStatus, OfAGuestThatDiedSilentlyIsNotZero) {
  for (const vmm::Ending ending : {vmm::Ending::kHalted, vmm::Ending::kRebooted}) {
    vmm::RunReport report = report_of(ending);
    report.silent = true;
    report.console_lines.clear();
    EXPECT_EQ(exit_status(report), 3);
    EXPECT_THAT(describe(report), HasSubstr("wick: vcpu0, at the end:\n  rip 1\n"));
    EXPECT_THAT(describe(report), EndsWith(" without having written anything\n"));
  }
  vmm::RunReport off = report_of(vmm::Ending::kPoweredOff);
  off.silent = true;
  EXPECT_EQ(exit_status(off), 0) << "no kernel powers off by mistake";
}

TEST(ExitStatus, OfASignalIs128AndItsNumber) {
  vmm::RunReport report = report_of(vmm::Ending::kSignal);
  report.signal = SIGTERM;
  EXPECT_EQ(exit_status(report), 143);
  EXPECT_EQ(describe(report), "wick: ended by signal 15 (SIGTERM)\n");
}

TEST(ExitStatus, OfADebugExitIsWhatTheGuestWroteAndNeverZero) {
  vmm::RunReport report = report_of(vmm::Ending::kDebugExit);
  report.debug_exit_value = 0x10;
  EXPECT_EQ(exit_status(report), 33);
  EXPECT_EQ(describe(report),
            "wick: the guest ended the run with status 33: it wrote 0x10 to its debug-exit port\n");
  report.debug_exit_value = 0x8000'0000;
  EXPECT_EQ(exit_status(report), 1);
}

TEST(Describe, GoodEndingsAreOneLine) {
  EXPECT_EQ(describe(report_of(vmm::Ending::kPoweredOff)), "wick: the guest powered off\n");
  EXPECT_EQ(describe(report_of(vmm::Ending::kRebooted)), "wick: the guest rebooted\n");
  EXPECT_EQ(describe(report_of(vmm::Ending::kHalted)), "wick: the guest halted for good\n");
  EXPECT_EQ(describe(report_of(vmm::Ending::kQuit)), "wick: ended by the user\n");
  EXPECT_EQ(describe(report_of(vmm::Ending::kHostFailed, "KVM_RUN: Input/output error")),
            "wick: the host failed: KVM_RUN: Input/output error\n");
}

TEST(Describe, BadEndingsShowConsoleAndRegistersAndEndWithTheName) {
  EXPECT_EQ(describe(report_of(vmm::Ending::kTimeout, "the guest was running")),
            "wick: the console's last lines:\n"
            "  first line\n"
            "  last line\n"
            "wick: vcpu0, at the end:\n"
            "  rip 1\n"
            "  rsp 2\n"
            "  write to port 1\n"
            "wick: vcpu1, at the end:\n"
            "  rip 3\n"
            "  no exit\n"
            "wick: the time ran out: the guest was running\n");
  for (const vmm::Ending ending :
       {vmm::Ending::kPanicked, vmm::Ending::kTripleFault, vmm::Ending::kKvmError}) {
    const std::string text = describe(report_of(ending, "why"));
    EXPECT_THAT(text, HasSubstr("  last line\n"));
    EXPECT_THAT(text, HasSubstr("  rip 3\n"));
    EXPECT_THAT(text, EndsWith(": why\n"));
  }
}

TEST(Describe, TripleFaultShowsWhatWasBeforeItApartFromTheRegisters) {
  vmm::RunReport report = report_of(vmm::Ending::kTripleFault);
  EXPECT_THAT(describe(report), HasSubstr("wick: vcpu0, last known before the fault:\n"
                                          "  write to port 1\n"
                                          "wick: vcpu0, at the fault:\n"
                                          "  rip 1\n"));
  report.registers_were_reset = true;
  EXPECT_THAT(describe(report),
              HasSubstr("wick: vcpu0, after the fault (KVM on AMD resets the registers):\n"
                        "  rip 1\n"));
}

TEST(Describe, ShowsTheLastTwentyLines) {
  vmm::RunReport report = report_of(vmm::Ending::kPanicked);
  report.console_lines.clear();
  for (int i = 1; i <= 30; ++i) report.console_lines.push_back(fmt::format("line {}.", i));
  const std::string text = describe(report);
  EXPECT_THAT(text, Not(HasSubstr("line 10.")));
  EXPECT_THAT(text, HasSubstr("line 11.\n"));
  EXPECT_THAT(text, HasSubstr("line 30.\n"));
}

TEST(Describe, HintComesBeforeTheLastLine) {
  EXPECT_THAT(describe(report_of(vmm::Ending::kPanicked), "do so"),
              EndsWith("wick: hint: do so\nwick: the guest's kernel panicked\n"));
}

TEST(Describe, OnlyWellFormedTextReachesTheTerminal) {
  const auto shown = [](std::string line) {
    vmm::RunReport report = report_of(vmm::Ending::kPanicked);
    report.console_lines = {std::move(line)};
    report.cpus.clear();
    const std::string text = describe(report);
    const size_t start = text.find("\n  ") + 3;
    return text.substr(start, text.find('\n', start) - start);
  };
  EXPECT_EQ(shown("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
            "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
  EXPECT_EQ(shown("\x9b"
                  "31m"),
            "\\x9b31m");
  EXPECT_EQ(shown("\xc2\x9b"), "\\xc2\\x9b");           // the same control, as UTF-8
  EXPECT_EQ(shown("\xc0\x9b"), "\\xc0\\x9b");           // overlong
  EXPECT_EQ(shown("\xe0\x82\x9b"), "\\xe0\\x82\\x9b");  // overlong
  EXPECT_EQ(shown("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(shown("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(shown("\xe2\x82"), "\\xe2\\x82");  // cut short
}

TEST(Describe, SilentGuestIsReportedAsSilent) {
  vmm::RunReport report = report_of(vmm::Ending::kTimeout);
  report.console_lines.clear();
  EXPECT_THAT(describe(report), HasSubstr("the console showed nothing\n"));
}

TEST(Describe, GuestsControlCharactersDoNotReachTheTerminal) {
  vmm::RunReport report = report_of(vmm::Ending::kPanicked, "de\x1btail");
  report.console_lines = {"a\x1b[2Jb\tc\rd\x7f"};
  const std::string text = describe(report);
  EXPECT_THAT(text, HasSubstr("  a\\x1b[2Jb\tc\\x0dd\\x7f\n"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace wick::cli
