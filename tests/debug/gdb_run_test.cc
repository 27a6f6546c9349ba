// Breakpoints, steps and stops, as a client sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "debug/gdb_session.h"
#include "tests/debug/gdb_client.h"

namespace wick::debug {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using vmm::CpuRun;
using vmm::DebugStop;
using vmm::MachineEvent;
using vmm::RunState;
using Kind = DebugStop::Kind;

constexpr uint64_t kCode = 0x1000;

// A client whose guest has one-byte instructions at kCode.
struct Attached : GdbClient {
  explicit Attached(uint32_t cpus = 2) : GdbClient({}, cpus) {
    poke(kCode, std::string(64, '\x90'));
    ask("QStartNoAckMode");
    ask("qSupported:swbreak+;hwbreak+");
    for (auto& cpu : machine_.registers_) cpu.rip = kCode;
  }
  void breakpoint_stop(uint32_t cpu, uint64_t address) {
    machine_.registers_[cpu].rip = address;
    stop({.cpu = cpu, .kind = Kind::kBreakpoint, .address = address});
  }
  void step_stop(uint32_t cpu, uint64_t address) {
    machine_.registers_[cpu].rip = address;
    stop({.cpu = cpu, .kind = Kind::kSingleStep, .address = address});
  }
  const std::vector<CpuRun>& run() const { return machine_.last_run_; }
};

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

TEST(GdbRun, HidesItsBreakpointsFromTheClient) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
  EXPECT_EQ(gdb.ask("m1003,3"), "909090");
  EXPECT_EQ(gdb.ask("M1003,3:010203"), "OK");
  EXPECT_EQ(gdb.peek(0x1003, 3), "01cc03");
  EXPECT_EQ(gdb.ask("m1003,3"), "010203");
  gdb.ask("z0,1004,1");
  EXPECT_EQ(gdb.peek(0x1003, 3), "010203");
}

TEST(GdbRun, SetsABreakpointOnceAndRemovesItOnce) {
  Attached gdb;
  EXPECT_EQ(gdb.ask("Z0,1004,1"), "OK");
  EXPECT_EQ(gdb.ask("Z0,1004,1"), "OK");
  EXPECT_EQ(gdb.ask("z0,1004,1"), "OK");
  EXPECT_EQ(gdb.peek(0x1004, 1), "90");
  EXPECT_EQ(gdb.ask("z0,1004,1"), "OK");
  EXPECT_EQ(gdb.ask("z0,5555,1"), "OK");
}

TEST(GdbRun, LeavesAloneWhatTheGuestHasWrittenOverABreakpoint) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.poke(0x1004, "\x0f");
  EXPECT_EQ(gdb.ask("m1004,1"), "0f");
  gdb.ask("z0,1004,1");
  EXPECT_EQ(gdb.peek(0x1004, 1), "0f");
}

TEST(GdbRun, RemovesABreakpointFromTheMemoryItWasPutInto) {
  Attached gdb;
  gdb.machine_.pages_ = {{0xff000, 0x1000}};
  gdb.ask("Z0,ff004,1");
  gdb.machine_.pages_ = {{0xff000, 0x5000}};  // the guest switches to another process
  gdb.ask("z0,ff004,1");
  EXPECT_EQ(gdb.peek(0x1004, 1), "90");
  EXPECT_EQ(gdb.peek(0x5004, 1), "00");
}

TEST(GdbRun, TwoAddressesMayShareTheMemoryOfABreakpoint) {
  Attached gdb;
  gdb.machine_.pages_ = {{0xff000, 0x1000}, {0x1000, 0x1000}};
  gdb.ask("Z0,ff004,1");
  gdb.ask("Z0,1004,1");
  gdb.ask("z0,ff004,1");
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
  EXPECT_EQ(gdb.ask("m1004,1"), "90");
  gdb.ask("z0,1004,1");
  EXPECT_EQ(gdb.peek(0x1004, 1), "90");
}

TEST(GdbRun, RefusesABreakpointThatIsNotMappedWithAdvice) {
  Attached gdb;
  EXPECT_THAT(gdb.ask("Z0,ffffffff81000000,1"),
              testing::AllOf(testing::StartsWith("E."), testing::HasSubstr("use hbreak")));
  EXPECT_EQ(gdb.ask("Z1,ffffffff81000000,1"), "OK");
}

TEST(GdbRun, BoundsTheNumberOfBreakpoints) {
  Attached gdb;
  for (size_t i = 0; i < SoftwareBreakpoints::kMax; ++i)
    EXPECT_EQ(gdb.ask(fmt::format("Z0,{:x},1", 0x2000 + i)), "OK");
  EXPECT_THAT(gdb.ask("Z0,1000,1"), testing::StartsWith("E."));
  for (const char* packet : {"Z", "Z0", "Z0,", "Z0,1", "Z0,1,", "Z,1,1", "z0,x,1"})
    EXPECT_EQ(gdb.ask(packet), "E22") << packet;
}

TEST(GdbRun, StepsOverABreakpointAndPutsItBack) {
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

TEST(GdbRun, AStepFromABreakpointIsOneStep) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c");
  gdb.breakpoint_stop(0, 0x1004);
  gdb.answers();
  gdb.ask("vCont;s:1;c");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kStay));
  gdb.step_stop(0, 0x1005);
  EXPECT_EQ(gdb.answers(), "T05thread:01;");
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
}

TEST(GdbRun, AJumpToItselfHitsItsBreakpointAgain) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c");
  gdb.breakpoint_stop(0, 0x1004);
  gdb.answers();
  gdb.ask("vCont;c");
  gdb.step_stop(0, 0x1004);
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kContinue, CpuRun::kContinue));
  gdb.breakpoint_stop(0, 0x1004);
  EXPECT_EQ(gdb.answers(), "T05thread:01;swbreak:;");
}

TEST(GdbRun, ACpuThatHasNotHitABreakpointIsNotSteppedOverIt) {
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

TEST(GdbRun, StepsEachCpuOverItsBreakpointInTurn) {
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

TEST(GdbRun, StopsForAWatchpointThatIsHitWhileSteppingOverABreakpoint) {
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

TEST(GdbRun, StopsOnControlCWhileSteppingOverABreakpoint) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c");
  gdb.breakpoint_stop(0, 0x1004);
  gdb.answers();
  gdb.ask("vCont;c");
  gdb.machine_.on_pause_ = [] {};
  gdb.press_control_c();
  gdb.step_stop(0, 0x1005);
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kStay)) << "nothing is resumed";
  gdb.machine_.finish_pause();
  EXPECT_EQ(gdb.answers(), "T02thread:02;");
}

TEST(GdbRun, GivesTheGuestItsOwnBreakpoints) {
  Attached gdb;
  gdb.poke(0x1010, "\xcc");
  gdb.ask("vCont;s:1;c:2");
  gdb.breakpoint_stop(1, 0x1010);
  EXPECT_EQ(gdb.calls("pass_breakpoint"), 1u);
  EXPECT_EQ(gdb.answers(), "");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kContinue));
  EXPECT_EQ(gdb.calls("resume_cpus"), 2u);
}

TEST(GdbRun, DoesNotGiveTheGuestABreakpointThatWasJustRemoved) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c");
  gdb.press_control_c();
  gdb.ask("z0,1004,1");
  gdb.machine_.on_resume_cpus_ = [&] {
    gdb.machine_.on_resume_cpus_ = {};
    gdb.breakpoint_stop(1, 0x1004);  // vCPU 1 had executed the INT3 before it was removed
  };
  gdb.answers();
  gdb.ask("vCont;c");
  EXPECT_EQ(gdb.calls("pass_breakpoint"), 0u);
  EXPECT_EQ(gdb.calls("resume_cpus"), 3u);

  gdb.poke(0x1004, "\xcc");  // the guest puts a kprobe there
  gdb.breakpoint_stop(1, 0x1004);
  EXPECT_EQ(gdb.calls("pass_breakpoint"), 1u);
}

TEST(GdbRun, StepsSilentlyOverABreakpointOfAnotherAddress) {
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

TEST(GdbRun, NamesTheHardwareBreakpointThatWasHit) {
  Attached gdb;
  EXPECT_EQ(gdb.ask("Z1,1004,1"), "OK");
  EXPECT_EQ(gdb.ask("Z2,3000,4"), "OK");
  EXPECT_EQ(gdb.ask("Z4,3008,2"), "OK");
  EXPECT_EQ(gdb.ask("Z3,3010,1"), "") << "the CPU cannot; gdb uses Z4";
  const auto told = [&](uint64_t dr6) {
    gdb.ask("vCont;c");
    gdb.stop({.cpu = 0, .kind = Kind::kHardware, .address = 0x1004, .dr6 = dr6});
    return gdb.answers();
  };
  EXPECT_EQ(told(1), "T05thread:01;hwbreak:;");
  EXPECT_EQ(told(2), "T05thread:01;watch:3000;");
  EXPECT_EQ(told(4), "T05thread:01;awatch:3008;");
  EXPECT_EQ(told(8), "T05thread:01;") << "none of ours";
}

TEST(GdbRun, DoesNotNameReasonsThatTheClientDoesNotKnow) {
  Attached gdb;
  gdb.ask("qSupported:");
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c");
  gdb.breakpoint_stop(0, 0x1004);
  EXPECT_EQ(gdb.answers(), "T05thread:01;");
}

TEST(GdbRun, SplitsAWatchedRangeAsTheCpuNeedsIt) {
  Attached gdb;
  EXPECT_EQ(gdb.ask("Z2,3001,b"), "OK");  // 1 + 2 + 8
  const auto& set = gdb.machine_.breakpoints_;
  ASSERT_EQ(set.size(), 4u);
  uint64_t next = 0x3001;
  for (const auto& each : set) {
    EXPECT_EQ(each.address, next);
    EXPECT_EQ(each.address % each.length_bytes, 0u);
    next += each.length_bytes;
  }
  EXPECT_EQ(next, 0x300cu);
  EXPECT_EQ(gdb.ask("Z1,1004,1"), "E28") << "all four are in use";
  EXPECT_EQ(gdb.ask("z2,3001,b"), "OK");
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(gdb.ask("Z2,3000,21"), "E28");
  EXPECT_EQ(gdb.ask("Z2,3000,ffffffffffffffff"), "E28");
  EXPECT_EQ(gdb.ask("Z2,ffffffffffffffff,ffffffffffffffff"), "E28");
  EXPECT_EQ(gdb.ask("Z2,3000,0"), "E22");
  EXPECT_TRUE(set.empty());
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

TEST(GdbRun, KeepsAWatchpointsStopThatCameTogetherWithAnother) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("Z2,3000,8");
  gdb.ask("vCont;c");
  gdb.breakpoint_stop(0, 0x1004);
  gdb.stop({.cpu = 1, .kind = Kind::kHardware, .address = 0x1020, .dr6 = 1});
  EXPECT_EQ(gdb.answers(), "T05thread:01;swbreak:;");
  EXPECT_EQ(gdb.ask("vCont;c"), "T05thread:02;watch:3000;");
  EXPECT_EQ(gdb.calls("resume_cpus"), 1u);
  EXPECT_EQ(gdb.ask("?"), "T05thread:02;watch:3000;");
}

TEST(GdbRun, InsertsItsBreakpointsAgainAfterAReset) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.ask("Z1,1008,1");
  gdb.ask("vCont;c");
  gdb.poke(0x1004, "\x40");                  // the kernel is loaded anew, this one another
  gdb.machine_.pages_ = {{0x8000, 0x8000}};  // nothing is mapped at first
  gdb.machine_.reset();
  EXPECT_EQ(gdb.machine_.breakpoints_.size(), 1u) << "hardware breakpoints stay";
  gdb.press_control_c();
  EXPECT_EQ(gdb.peek(0x1004, 1), "40");
  gdb.machine_.pages_.clear();
  gdb.ask("vCont;c");
  EXPECT_EQ(gdb.peek(0x1004, 1), "cc");
  gdb.press_control_c();
  gdb.ask("z0,1004,1");
  EXPECT_EQ(gdb.peek(0x1004, 1), "40");
}

TEST(GdbRun, RemovesABreakpointThatAResetHasTaken) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.poke(0x1004, "\x40");
  gdb.machine_.reset();
  EXPECT_EQ(gdb.ask("z0,1004,1"), "OK");
  EXPECT_EQ(gdb.peek(0x1004, 1), "40");
}

TEST(GdbRun, StepsOverABreakpointAtASegmentsBase) {
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
