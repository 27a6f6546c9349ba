// Breakpoints and watchpoints, as a client sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "debug/gdb_breakpoints.h"
#include "tests/debug/attached_gdb.h"

namespace wick::debug {
namespace {

using testing::ElementsAre;
using vmm::CpuRun;
using Kind = vmm::DebugStop::Kind;

TEST(GdbBreakpoints, HidesItsBreakpointsFromTheClient) {
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

TEST(GdbBreakpoints, SetsABreakpointOnceAndRemovesItOnce) {
  Attached gdb;
  EXPECT_EQ(gdb.ask("Z0,1004,1"), "OK");
  EXPECT_EQ(gdb.ask("Z0,1004,1"), "OK");
  EXPECT_EQ(gdb.ask("z0,1004,1"), "OK");
  EXPECT_EQ(gdb.peek(0x1004, 1), "90");
  EXPECT_EQ(gdb.ask("z0,1004,1"), "OK");
  EXPECT_EQ(gdb.ask("z0,5555,1"), "OK");
}

TEST(GdbBreakpoints, LeavesAloneWhatTheGuestHasWrittenOverABreakpoint) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.poke(0x1004, "\x0f");
  EXPECT_EQ(gdb.ask("m1004,1"), "0f");
  gdb.ask("z0,1004,1");
  EXPECT_EQ(gdb.peek(0x1004, 1), "0f");
}

TEST(GdbBreakpoints, RemovesABreakpointFromTheMemoryItWasPutInto) {
  Attached gdb;
  gdb.machine_.pages_ = {{0xff000, 0x1000}};
  gdb.ask("Z0,ff004,1");
  gdb.machine_.pages_ = {{0xff000, 0x5000}};  // the guest switches to another process
  gdb.ask("z0,ff004,1");
  EXPECT_EQ(gdb.peek(0x1004, 1), "90");
  EXPECT_EQ(gdb.peek(0x5004, 1), "00");
}

TEST(GdbBreakpoints, TwoAddressesMayShareTheMemoryOfABreakpoint) {
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

TEST(GdbBreakpoints, RefusesABreakpointThatIsNotMappedWithAdvice) {
  Attached gdb;
  EXPECT_THAT(gdb.ask("Z0,ffffffff81000000,1"),
              testing::AllOf(testing::StartsWith("E."), testing::HasSubstr("use hbreak")));
  EXPECT_EQ(gdb.ask("Z1,ffffffff81000000,1"), "OK");
}

TEST(GdbBreakpoints, BoundsTheNumberOfBreakpoints) {
  Attached gdb;
  for (size_t i = 0; i < SoftwareBreakpoints::kMax; ++i)
    EXPECT_EQ(gdb.ask(fmt::format("Z0,{:x},1", 0x2000 + i)), "OK");
  EXPECT_THAT(gdb.ask("Z0,1000,1"), testing::StartsWith("E."));
  for (const char* packet : {"Z", "Z0", "Z0,", "Z0,1", "Z0,1,", "Z,1,1", "z0,x,1"})
    EXPECT_EQ(gdb.ask(packet), "E22") << packet;
}

TEST(GdbBreakpoints, GivesTheGuestItsOwnBreakpoints) {
  Attached gdb;
  gdb.poke(0x1010, "\xcc");
  gdb.ask("vCont;s:1;c:2");
  gdb.breakpoint_stop(1, 0x1010);
  EXPECT_EQ(gdb.calls("pass_breakpoint"), 1u);
  EXPECT_EQ(gdb.answers(), "");
  EXPECT_THAT(gdb.run(), ElementsAre(CpuRun::kStep, CpuRun::kContinue));
  EXPECT_EQ(gdb.calls("resume_cpus"), 2u);
}

TEST(GdbBreakpoints, DoesNotGiveTheGuestABreakpointThatWasJustRemoved) {
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

TEST(GdbBreakpoints, NamesTheHardwareBreakpointThatWasHit) {
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

TEST(GdbBreakpoints, DoesNotNameReasonsThatTheClientDoesNotKnow) {
  Attached gdb;
  gdb.ask("qSupported:");
  gdb.ask("Z0,1004,1");
  gdb.ask("vCont;c");
  gdb.breakpoint_stop(0, 0x1004);
  EXPECT_EQ(gdb.answers(), "T05thread:01;");
}

TEST(GdbBreakpoints, SplitsAWatchedRangeAsTheCpuNeedsIt) {
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

TEST(GdbBreakpoints, KeepsAWatchpointsStopThatCameTogetherWithAnother) {
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

TEST(GdbBreakpoints, InsertsItsBreakpointsAgainAfterAReset) {
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

TEST(GdbBreakpoints, RemovesABreakpointThatAResetHasTaken) {
  Attached gdb;
  gdb.ask("Z0,1004,1");
  gdb.poke(0x1004, "\x40");
  gdb.machine_.reset();
  EXPECT_EQ(gdb.ask("z0,1004,1"), "OK");
  EXPECT_EQ(gdb.peek(0x1004, 1), "40");
}

}  // namespace
}  // namespace wick::debug
