// How a vCPU goes on from a software breakpoint: it executes the original instruction alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/debug/attached_gdb.h"

namespace wick::debug {
namespace {

using testing::ElementsAre;
using vmm::CpuRun;
using Kind = vmm::DebugStop::Kind;

TEST(GdbStepOver, StepsOverABreakpointAndPutsItBack) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c");
  gdb.breakpoint_stop(1, 0x1004);
  EXPECT_EQ(gdb.answers(), "T05thread:02;swbreak:;");

  gdb.ask("vCont;c");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStay, CpuRun::kStep)) << "that vCPU alone";
  EXPECT_EQ(gdb.peek(0x1004, 1), "90");
  gdb.step_stop(1, 0x1005);
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kContinue, CpuRun::kContinue));
  EXPECT_EQ(gdb.answers(), "") << "the client is not told of the step";
  gdb.breakpoint_stop(0, 0x1004);
  EXPECT_EQ(gdb.answers(), "T05thread:01;swbreak:;");
}

TEST(GdbStepOver, AStepFromABreakpointIsOneStep) {
  Attached gdb;
  gdb.hit_breakpoint(0, 0x1004);
  gdb.ask("vCont;s:1;c");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kStay));
  gdb.step_stop(0, 0x1005);
  EXPECT_EQ(gdb.answers(), "T05thread:01;");
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
}

TEST(GdbStepOver, AJumpToItselfHitsItsBreakpointAgain) {
  Attached gdb;
  gdb.hit_breakpoint(0, 0x1004);
  gdb.ask("vCont;c");
  gdb.step_stop(0, 0x1004);
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kContinue, CpuRun::kContinue));
  gdb.breakpoint_stop(0, 0x1004);
  EXPECT_EQ(gdb.answers(), "T05thread:01;swbreak:;");
}

TEST(GdbStepOver, ACpuThatHasNotHitABreakpointIsNotSteppedOverIt) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("Z0,1008,1");
  gdb.ask("vCont;c");
  gdb.machine_.registers_[0].rip = 0x1004;  // it is about to execute the INT3
  gdb.breakpoint_stop(1, 0x1008);
  gdb.ask("vCont;c");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStay, CpuRun::kStep));
  gdb.step_stop(1, 0x1009);
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kContinue, CpuRun::kContinue));
  gdb.breakpoint_stop(0, 0x1004);
  EXPECT_EQ(gdb.answers(), "T05thread:01;swbreak:;");
}

TEST(GdbStepOver, StepsEachCpuOverItsBreakpointInTurn) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c:1");
  gdb.breakpoint_stop(0, 0x1004);
  gdb.ask("vCont;c:2");
  gdb.breakpoint_stop(1, 0x1004);
  gdb.answers();
  gdb.ask("vCont;c");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kStay)) << "it had stayed there";
  gdb.step_stop(0, 0x1005);
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStay, CpuRun::kStep));
  gdb.step_stop(1, 0x1005);
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kContinue, CpuRun::kContinue));
  EXPECT_EQ(gdb.answers(), "");
}

TEST(GdbStepOver, StopsForAWatchpointThatIsHitWhileSteppingOverABreakpoint) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("Z2,3000,8");
  gdb.ask("vCont;c");
  gdb.breakpoint_stop(0, 0x1004);
  gdb.answers();
  gdb.ask("vCont;c");
  gdb.stop({.cpu = 0, .kind = Kind::kHardware, .address = 0x1005, .dr6 = 1});
  EXPECT_EQ(gdb.answers(), "T05thread:01;watch:3000;");
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
}

TEST(GdbStepOver, StopsOnControlCWhileSteppingOverABreakpoint) {
  Attached gdb;
  gdb.hit_breakpoint(0, 0x1004);
  gdb.ask("vCont;c");
  gdb.machine_.on_pause_ = [] {};
  gdb.press_control_c();
  gdb.step_stop(0, 0x1005);
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kStay)) << "nothing is resumed";
  gdb.machine_.finish_pause();
  EXPECT_EQ(gdb.answers(), "T02thread:02;");
}

TEST(GdbStepOver, StepsSilentlyOverABreakpointOfAnotherAddress) {
  Attached gdb;
  gdb.machine_.pages_ = {{0xff000, 0x1000}, {0x1000, 0x1000}};
  gdb.ask("Z0,ff004,1");
  gdb.ask("vCont;c");
  gdb.breakpoint_stop(0, 0x1004);  // the same memory, but not the client's address
  EXPECT_EQ(gdb.calls("pass_breakpoint"), 0u);
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kStay));
  EXPECT_EQ(gdb.peek(0x1004, 1), "90");
  gdb.step_stop(0, 0x1005);
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kContinue, CpuRun::kContinue));
  EXPECT_EQ(gdb.answers(), "");
}

TEST(GdbStepOver, StepsOverABreakpointAtASegmentsBase) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c");
  gdb.machine_.registers_[0].cs.base = 0x1000;  // 16-bit code
  gdb.machine_.registers_[0].rip = 4;
  gdb.stop({.cpu = 0, .kind = Kind::kBreakpoint, .address = 0x1004});
  gdb.answers();
  gdb.ask("vCont;c");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kStay));
}

}  // namespace
}  // namespace wick::debug
