#include "debug/gdb_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/debug/gdb_client.h"

namespace wick::debug {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using vmm::CpuRun;
using vmm::DebugStop;
using vmm::MachineEvent;
using vmm::RunState;

TEST(GdbSession, TellsTheMachineNothingBeforeTheFirstPacket) {
  GdbClient gdb;
  gdb.session_->receive("GET / HTTP/1.1\r\n\x03+-");
  EXPECT_TRUE(gdb.machine_.log_.empty());
  EXPECT_EQ(gdb.machine_.state_, RunState::kRunning);
}

TEST(GdbSession, StopsTheMachineAtTheFirstPacket) {
  GdbClient gdb;
  EXPECT_EQ(gdb.ask("?"), "T05thread:01;");
  EXPECT_EQ(gdb.machine_.state_, RunState::kDebug);
  EXPECT_THAT(gdb.machine_.log_, ElementsAre("pause", "attach_debugger"));
}

TEST(GdbSession, AnswersOnceTheMachineHasStopped) {
  GdbClient gdb;
  gdb.machine_.on_pause_ = [] {};
  EXPECT_EQ(gdb.ask("qAttached"), "");
  EXPECT_TRUE(gdb.held_);
  EXPECT_EQ(gdb.ask("qC"), "");
  gdb.machine_.finish_pause();
  EXPECT_EQ(gdb.answers(), "1|QC01");
  EXPECT_FALSE(gdb.held_);
}

TEST(GdbSession, AcknowledgesPacketsUntilToldNotTo) {
  GdbClient gdb;
  gdb.session_->receive("$qC#b4");
  EXPECT_EQ(gdb.sent_, "+$QC01#f5");
  gdb.sent_.clear();
  gdb.session_->receive("$qC#00");
  EXPECT_EQ(gdb.sent_, "-");
  gdb.sent_.clear();
  gdb.session_->receive("-");
  EXPECT_EQ(gdb.sent_, "$QC01#f5") << "'-' asks for the last answer again";
  gdb.sent_.clear();
  EXPECT_EQ(gdb.ask("QStartNoAckMode"), "OK");
  gdb.session_->receive("$qC#b4");
  EXPECT_EQ(gdb.sent_, "$QC01#f5");
}

TEST(GdbSession, NamesItsFeatures) {
  GdbClient gdb;
  const std::string features =
      gdb.ask("qSupported:multiprocess+;swbreak+;hwbreak+;xmlRegisters=i386");
  for (const char* feature : {"PacketSize=4000", "qXfer:features:read+", "QStartNoAckMode+",
                              "swbreak+", "hwbreak+", "vContSupported+", "multiprocess+"})
    EXPECT_THAT(features, HasSubstr(feature));
  EXPECT_EQ(gdb.ask("qC"), "QCp01.01");
}

TEST(GdbSession, AnswersUnknownPacketsWithNothing) {
  GdbClient gdb;
  for (const char* packet : {"", "vMustReplyEmpty", "qTStatus", "qOffsets", "b", "QPassSignals:1",
                             "vFile:open:2f,0,0", "\x01", "qemu.unknown", "qqemu.unknown"})
    EXPECT_EQ(gdb.ask(packet), "") << packet;
}

TEST(GdbSession, HasOneThreadPerCpu) {
  GdbClient gdb;
  EXPECT_EQ(gdb.ask("qfThreadInfo"), "m01,02");
  EXPECT_EQ(gdb.ask("qsThreadInfo"), "l");
  EXPECT_EQ(gdb.ask("T2"), "OK");
  EXPECT_EQ(gdb.ask("T3"), "E22");
  EXPECT_EQ(gdb.ask("qThreadExtraInfo,2"), to_hex("CPU#1 [running]"));
  EXPECT_EQ(gdb.ask("qThreadExtraInfo,9"), "E22");
  EXPECT_EQ(gdb.ask("Hg2"), "OK");
  EXPECT_EQ(gdb.ask("qC"), "QC02");
  EXPECT_EQ(gdb.ask("Hgp1.1"), "OK");
  EXPECT_EQ(gdb.ask("qC"), "QC01");
  EXPECT_EQ(gdb.ask("Hc-1"), "OK");
  EXPECT_EQ(gdb.ask("Hg3"), "E22");
  EXPECT_EQ(gdb.ask("Hgp2.1"), "E22");
  EXPECT_EQ(gdb.ask("Hx1"), "E22");
}

TEST(GdbSession, GivesItsDescriptionInPieces) {
  GdbClient gdb;
  std::string whole;
  for (;;) {
    const std::string piece =
        gdb.ask(fmt::format("qXfer:features:read:target.xml:{:x},ffb", whole.size()));
    ASSERT_FALSE(piece.empty());
    whole += piece.substr(1);
    if (piece[0] == 'l') break;
  }
  EXPECT_EQ(whole, GdbRegisterSet(true).description());
  EXPECT_EQ(gdb.ask("qXfer:features:read:target.xml:ffffff,10"), "E22");
  EXPECT_EQ(gdb.ask("qXfer:features:read:target.xml:0"), "E22");
  EXPECT_EQ(gdb.ask("qXfer:features:read:../etc/passwd:0,10"), "E00");
}

TEST(GdbSession, ReadsAndWritesRegisters) {
  GdbClient gdb;
  gdb.machine_.registers_[0].general[3] = 0x1122334455667788;  // rbx
  gdb.machine_.registers_[1].rip = 0x7c00;
  EXPECT_EQ(gdb.ask("p1"), "8877665544332211");
  EXPECT_EQ(gdb.ask("Hg2"), "OK");
  EXPECT_EQ(gdb.ask("p10"), "007c000000000000");
  EXPECT_EQ(gdb.ask("P10=0100000000000000"), "OK");
  EXPECT_EQ(gdb.machine_.registers_[1].rip, 1u);
  EXPECT_EQ(gdb.ask("Hg1"), "OK");
  const std::string all = gdb.ask("g");
  EXPECT_EQ(all.size(), GdbRegisterSet(true).size_bytes() * 2);
  std::string changed = all;
  changed.replace(0, 2, "2a");  // rax
  EXPECT_EQ(gdb.ask("G" + changed), "OK");
  EXPECT_EQ(gdb.machine_.registers_[0].general[0], 0x2au);
}

TEST(GdbSession, RefusesRegistersThatDoNotExist) {
  GdbClient gdb;
  EXPECT_EQ(gdb.ask("p400"), "E22");
  EXPECT_EQ(gdb.ask("pffffffffffffffff"), "E22");
  EXPECT_EQ(gdb.ask("p"), "E22");
  EXPECT_EQ(gdb.ask("P0=00"), "E22");
  EXPECT_EQ(gdb.ask("P0"), "E22");
  EXPECT_EQ(gdb.ask("P400=00"), "E22");
  EXPECT_EQ(gdb.ask("G00"), "E22");
  EXPECT_EQ(gdb.ask("Gzz"), "E22");
}

TEST(GdbSession, RefusesToWriteTheKernelsGsBase) {
  GdbClient gdb;
  gdb.machine_.msrs_[0xc000'0102] = 0x10;
  EXPECT_EQ(gdb.ask("p3b"), "1000000000000000");
  EXPECT_EQ(gdb.ask("P3b=1000000000000000"), "OK") << "the value it has";
  EXPECT_EQ(gdb.ask("P3b=1100000000000000"), "E01");
}

TEST(GdbSession, ReadsAndWritesMemory) {
  GdbClient gdb;
  gdb.poke(0x1000, "hello");
  EXPECT_EQ(gdb.ask("m1000,5"), to_hex("hello"));
  EXPECT_EQ(gdb.ask("M1001,2:4142"), "OK");
  EXPECT_EQ(gdb.ask("X1003,2:#\x01"), "OK");
  EXPECT_EQ(gdb.peek(0x1000, 5), "6841422301");
}

TEST(GdbSession, ReadsUpToTheEndOfAMapping) {
  GdbClient gdb;
  gdb.machine_.pages_ = {{0xffff'0000, 0x3000}, {0xffff'1000, 0x1000}};
  gdb.poke(0x3ffe, "ab");
  gdb.poke(0x1000, "cd");
  EXPECT_EQ(gdb.ask("mffff0ffe,4"), to_hex("abcd")) << "across pages that are not neighbours";
  EXPECT_EQ(gdb.ask("mffff1ffe,10"), "0000");
  EXPECT_EQ(gdb.ask("mffff2000,1"), "E14");
  EXPECT_EQ(gdb.ask("Mffff1ffe,4:01020304"), "E14");
  EXPECT_EQ(gdb.ask("mffff1ffe,2"), "0000") << "a refused write changes nothing";
}

TEST(GdbSession, BoundsWhatAClientReadsAtOnce) {
  GdbClient gdb;
  EXPECT_LE(gdb.ask("m0,ffffffffffffffff").size(), kPacketBytes);
  EXPECT_EQ(gdb.ask("mffffffffffffffff,2"), "E14");
  EXPECT_EQ(gdb.ask("m0,0"), "");
  for (const char* packet : {"m", "m1", "m1,", "m,1", "M0,2:00", "M0,1:zz", "M0,1", "X0,3:ab", "X"})
    EXPECT_EQ(gdb.ask(packet), "E22") << packet;
}

TEST(GdbSession, ReadsPhysicalMemoryOnRequest) {
  GdbClient gdb;
  gdb.machine_.pages_ = {{0x8000, 0x1000}};
  gdb.poke(0x1000, "A");
  gdb.poke(0x8000, "B");
  EXPECT_EQ(gdb.ask("qqemu.PhyMemMode"), "0");
  EXPECT_EQ(gdb.ask("m8000,1"), to_hex("A"));
  EXPECT_EQ(gdb.ask("Qqemu.PhyMemMode:1"), "OK");
  EXPECT_EQ(gdb.ask("qqemu.PhyMemMode"), "1");
  EXPECT_EQ(gdb.ask("m8000,1"), to_hex("B"));
  EXPECT_EQ(gdb.ask("mffffff0000000,1"), "E14");
}

TEST(GdbSession, KnowsTheStepFlagsOfQemu) {
  GdbClient gdb;
  EXPECT_EQ(gdb.ask("qqemu.sstepbits"), "ENABLE=1,NOIRQ=2");
  EXPECT_EQ(gdb.ask("qqemu.sstep"), "0x3");
  EXPECT_EQ(gdb.ask("Qqemu.sstep=1"), "OK");
  EXPECT_EQ(gdb.ask("qqemu.sstep"), "0x1");
  EXPECT_EQ(gdb.ask("Qqemu.sstep=8"), "E22");
  EXPECT_EQ(gdb.ask("qqemu.Supported"), "sstepbits;sstep;PhyMemMode");
}

TEST(GdbSession, PassesMonitorLinesOn) {
  std::string line;
  std::function<void(std::string)> answer;
  GdbClient gdb([&](std::string text, std::function<void(std::string)> reply) {
    line = text;
    answer = std::move(reply);
  });
  EXPECT_EQ(gdb.ask("qRcmd," + to_hex("info status")), "");
  EXPECT_EQ(line, "info status");
  EXPECT_EQ(gdb.ask("qC"), "") << "the next packet waits for the answer";
  EXPECT_TRUE(gdb.held_);
  answer("VM status: paused\n");
  EXPECT_EQ(gdb.answers(), "O" + to_hex("VM status: paused\n") + "|OK|QC01");
  answer("again");
  EXPECT_EQ(gdb.answers(), "") << "a line has one answer";
  EXPECT_EQ(gdb.ask("qRcmd,zz"), "E22");
}

TEST(GdbSession, SplitsLongAnswersOfTheMonitor) {
  const std::string text(100'000, 'x');
  GdbClient gdb([&](std::string, auto reply) { reply(text); });
  gdb.session_->receive(frame_packet("qRcmd," + to_hex("help")));
  PacketReader reader;
  reader.feed(gdb.sent_);
  std::string seen;
  while (const auto item = reader.next()) {
    EXPECT_LE(item->payload.size(), kPacketBytes);
    if (item->payload != "OK") seen += from_hex(item->payload.substr(1)).value();
  }
  EXPECT_EQ(seen, text);
}

TEST(GdbSession, IgnoresAnAnswerOfTheMonitorThatComesTooLate) {
  std::function<void(std::string)> answer;
  {
    GdbClient gdb([&](std::string, auto reply) { answer = std::move(reply); });
    gdb.ask("qRcmd,");
  }
  answer("late");
}

TEST(GdbSession, SaysSoIfThereIsNoMonitor) {
  GdbClient gdb;
  EXPECT_EQ(gdb.ask("qRcmd," + to_hex("help")), "");
}

TEST(GdbSession, DetachesWithoutATrace) {
  GdbClient gdb;
  gdb.poke(0x1000, "\x90");
  EXPECT_EQ(gdb.ask("Z0,1000,1"), "OK");
  EXPECT_EQ(gdb.ask("Z1,2000,1"), "OK");
  EXPECT_EQ(gdb.peek(0x1000, 1), "cc");
  EXPECT_EQ(gdb.ask("D"), "OK");
  EXPECT_EQ(gdb.peek(0x1000, 1), "90");
  EXPECT_TRUE(gdb.machine_.breakpoints_.empty());
  EXPECT_EQ(gdb.calls("detach_debugger"), 1u);
  EXPECT_EQ(gdb.machine_.state_, RunState::kRunning);
  EXPECT_TRUE(gdb.closed_);
  EXPECT_EQ(gdb.ask("qC"), "") << "the session has ended";
}

TEST(GdbSession, DetachesAClientThatIsGone) {
  GdbClient gdb;
  gdb.poke(0x1000, "\x90");
  gdb.ask("Z0,1000,1");
  gdb.ask("vCont;c");
  bool left = false;
  gdb.machine_.on_pause_ = [] {};
  gdb.session_->leave([&] { left = true; });
  EXPECT_FALSE(left) << "INT3s are removed once the machine has stopped";
  EXPECT_EQ(gdb.peek(0x1000, 1), "cc");
  gdb.machine_.finish_pause();
  EXPECT_TRUE(left);
  EXPECT_EQ(gdb.peek(0x1000, 1), "90");
  EXPECT_EQ(gdb.machine_.state_, RunState::kRunning);
  EXPECT_EQ(gdb.answers(), "");
}

TEST(GdbSession, DetachesFromAMachineThatAnotherClientHasResumed) {
  for (const bool asks : {true, false}) {
    GdbClient gdb;
    gdb.ask("?");
    gdb.machine_.resume();  // QMP's "cont"
    if (asks) {
      EXPECT_EQ(gdb.ask("D"), "OK");
    } else {
      gdb.session_->leave([] {});
    }
    EXPECT_EQ(gdb.calls("detach_debugger"), 1u);
    EXPECT_EQ(gdb.machine_.state_, RunState::kRunning);
  }
}

TEST(GdbSession, LeavesAMachineStoppedThatItFoundSo) {
  GdbClient gdb;
  gdb.machine_.state_ = RunState::kPaused;
  gdb.ask("?");
  gdb.session_->leave([] {});
  EXPECT_EQ(gdb.machine_.state_, RunState::kPaused);
}

TEST(GdbSession, LeavesBeforeTheMachineHasStopped) {
  GdbClient gdb;
  gdb.machine_.on_pause_ = [] {};
  gdb.ask("?");
  bool left = false;
  gdb.session_->leave([&] { left = true; });
  EXPECT_TRUE(left);
  gdb.machine_.finish_pause();
  EXPECT_EQ(gdb.machine_.state_, RunState::kRunning);
  EXPECT_EQ(gdb.calls("attach_debugger"), 0u);
  EXPECT_EQ(gdb.answers(), "");
}

TEST(GdbSession, ClosesIfAResetOvertakesTheAttachment) {
  GdbClient gdb;
  gdb.machine_.on_pause_ = [] {};
  gdb.ask("?");
  gdb.machine_.reset();  // forgets the pause
  EXPECT_TRUE(gdb.closed_);
  bool left = false;
  gdb.session_->leave([&] { left = true; });
  EXPECT_TRUE(left);
}

TEST(GdbSession, ClosesIfTheMachineCannotBeDebugged) {
  GdbClient refused;
  refused.machine_.attach_refusal_ = Error{EINVAL, "kvm: no KVM_SET_GUEST_DEBUG", {}};
  refused.ask("?");
  EXPECT_TRUE(refused.closed_);
  EXPECT_EQ(refused.machine_.state_, RunState::kRunning);
}

TEST(GdbSession, EndsTheMachine) {
  for (const char* packet : {"k", "vKill;1"}) {
    GdbClient gdb;
    gdb.ask("?");
    gdb.ask(packet);
    EXPECT_EQ(gdb.calls("end " + std::to_string(static_cast<int>(vmm::Ending::kQuit))), 1u);
    EXPECT_TRUE(gdb.closed_);
  }
}

TEST(GdbSession, ResetsTheMachine) {
  GdbClient gdb;
  EXPECT_EQ(gdb.ask("!"), "OK");
  EXPECT_EQ(gdb.ask("R00"), "");
  EXPECT_EQ(gdb.calls("reset"), 1u);
}

TEST(GdbSession, TellsTheEndOfTheMachine) {
  const auto told = [](const char* reason) {
    GdbClient gdb;
    gdb.ask("vCont;c");
    gdb.machine_.publish({.kind = MachineEvent::Kind::kShutdown, .guest = true, .reason = reason});
    EXPECT_TRUE(gdb.closed_);
    EXPECT_EQ(gdb.calls("detach_debugger"), 0u) << "there is nothing left to detach from";
    return gdb.answers();
  };
  EXPECT_EQ(told("guest-shutdown"), "W00");
  EXPECT_EQ(told("guest-reset"), "W00");
  EXPECT_EQ(told("guest-panic"), "X06");
  EXPECT_EQ(told("host-signal"), "X0f");
}

TEST(GdbSession, ClosesWithoutAnAnswerIfTheMachineEndsWhileItIsStopped) {
  GdbClient gdb;
  gdb.ask("?");
  gdb.machine_.publish({.kind = MachineEvent::Kind::kShutdown, .reason = "host-qmp-quit"});
  EXPECT_EQ(gdb.answers(), "");
  EXPECT_TRUE(gdb.closed_);
}

}  // namespace
}  // namespace wick::debug
