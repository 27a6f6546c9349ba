// Continues, steps and stops, as a client sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/debug/attached_gdb.h"

namespace wick::debug {
namespace {

using testing::ElementsAre;
using vmm::CpuRun;
using vmm::RunState;

TEST(GdbRun, ContinuesAllCpus) {
  Attached gdb;
  EXPECT_EQ(gdb.ask("vCont;c"), "");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kContinue, CpuRun::kContinue));
  EXPECT_EQ(gdb.machine_.state_, RunState::kRunning);
}

TEST(GdbRun, StepsOneCpuAndLeavesTheOthersStopped) {
  Attached gdb;
  EXPECT_EQ(gdb.ask("vCont;s:2"), "");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStay, CpuRun::kStep));
  gdb.step_stop(1, kCode + 1);
  EXPECT_EQ(gdb.answers(), "T05thread:02;");
  gdb.ask("Hc1");
  gdb.ask("s");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kStay));
}

TEST(GdbRun, StepsOneCpuWhileTheOthersContinue) {
  Attached gdb;
  gdb.ask("vCont;s:1;c");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kContinue));
  gdb.step_stop(0, kCode + 1);
  gdb.ask("vCont;C05:p1.2;S05:p1.-1");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kContinue));
}

TEST(GdbRun, ContinuesAtAnAddress) {
  Attached gdb;
  gdb.ask("c1008");
  EXPECT_EQ(gdb.machine_.registers_[0].rip, 0x1008u);
  gdb.press_control_c();
  gdb.answers();
  gdb.ask("C05;1010");
  EXPECT_EQ(gdb.machine_.registers_[0].rip, 0x1010u);
}

TEST(GdbRun, RefusesWhatItCannotResume) {
  Attached gdb;
  for (const char* packet : {"vCont", "vCont;", "vCont;x", "vCont;c:9", "vCont;c:", "vCont;C",
                             "vCont;s:1junk", "vCont;r1,2:1", "cxyz", "C", "Sx"})
    EXPECT_EQ(gdb.ask(packet), "E22") << packet;
  EXPECT_EQ(gdb.calls("resume_cpus"), 0u);
}

TEST(GdbRun, RefusesToResumeARunningMachine) {
  Attached gdb;
  gdb.ask("vCont;c");
  EXPECT_EQ(gdb.ask("vCont;c"), "E16");
  EXPECT_EQ(gdb.ask("g"), "E16");
  gdb.press_control_c();
  EXPECT_EQ(gdb.answers(), "T02thread:02;") << "the client still gets its stop";
}

TEST(GdbRun, StopsOnControlC) {
  Attached gdb;
  gdb.press_control_c();
  EXPECT_EQ(gdb.answers(), "") << "it is stopped";
  gdb.ask("vCont;c:1");
  gdb.press_control_c();
  EXPECT_EQ(gdb.answers(), "T02thread:01;");
}

TEST(GdbRun, GivesOneStopIfABreakpointIsFasterThanControlC) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c");
  gdb.machine_.on_pause_ = [] {};
  gdb.press_control_c();
  gdb.press_control_c();
  gdb.breakpoint_stop(1, 0x1004);
  EXPECT_EQ(gdb.answers(), "T05thread:02;swbreak:;");
  EXPECT_EQ(gdb.ask("vCont;c"), "") << "waits until the pause has ended";
  EXPECT_EQ(gdb.calls("resume_cpus"), 1u);
  gdb.machine_.finish_pause();
  EXPECT_EQ(gdb.answers(), "");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStay, CpuRun::kStep)) << "over the breakpoint";
}

TEST(GdbRun, AResetThatOvertakesControlCLetsTheClientPressItAgain) {
  Attached gdb;
  gdb.ask("vCont;c:1");
  gdb.machine_.on_pause_ = [] {};
  gdb.press_control_c();
  gdb.machine_.on_pause_ = {};
  gdb.machine_.reset();
  EXPECT_EQ(gdb.answers(), "");
  gdb.press_control_c();
  EXPECT_EQ(gdb.answers(), "T02thread:01;");
}

TEST(GdbRun, TellsTheStopOfAnotherClientOfTheMachine) {
  Attached gdb;
  gdb.ask("vCont;c");
  gdb.machine_.pause(RunState::kPaused, {});  // QMP's "stop"
  EXPECT_EQ(gdb.answers(), "T02thread:02;");
  gdb.ask("vCont;c");
  gdb.machine_.pause(RunState::kIoError, {});
  EXPECT_EQ(gdb.answers(), "T11thread:02;");
  gdb.ask("vCont;c");
  gdb.machine_.pause(RunState::kPanicked, {});
  EXPECT_EQ(gdb.answers(), "T06thread:02;");
}

TEST(GdbRun, FindsAMachineRunningThatAnotherClientHasResumed) {
  Attached gdb;
  gdb.machine_.resume();  // QMP's "cont"
  EXPECT_EQ(gdb.ask("vCont;c"), "");
  EXPECT_EQ(gdb.calls("resume_cpus"), 0u);
  gdb.press_control_c();
  EXPECT_EQ(gdb.answers(), "T02thread:02;");
}

}  // namespace
}  // namespace wick::debug
