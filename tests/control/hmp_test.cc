#include "control/hmp.h"

#include <gmock/gmock.h>

#include <cstring>

#include "control/hmp_command.h"
#include "control/monitor_session.h"
#include "tests/control/session_fixture.h"

namespace wick::control {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

class Monitor : public ControlTest {
 protected:
  template <typename T>
  void poke(uint64_t address, const T& value) {
    ASSERT_TRUE(machine.memory().write(GuestAddress{address}, value).has_value());
  }
};

TEST_F(Monitor, SaysWhatItDoesNotKnow) {
  EXPECT_EQ(monitor("nonsense"), "unknown command: 'nonsense'\n");
  EXPECT_EQ(monitor("info nonsense"), "unknown command: 'info nonsense'\n");
  EXPECT_EQ(monitor(""), "");
  EXPECT_EQ(monitor("   "), "");
  EXPECT_EQ(monitor("help nonsense"), "unknown command: 'nonsense'\n");
  EXPECT_EQ(monitor("stop now"),
            "stop|s: extraneous characters at the end of line\n"
            "Try \"help stop\" for more information\n");
  EXPECT_EQ(monitor("eject"), "eject: device expected\nTry \"help eject\" for more information\n");
}

TEST_F(Monitor, ScriptsCanTellErrorsFromAnswers) {
  for (const char* wrong : {"nonsense", "info nonsense", "stop now", "eject", "savevm a",
                            "device_del none", "netdev_add user", "p $none", "cpu 9"})
    EXPECT_TRUE(is_monitor_error(monitor(wrong))) << wrong << ": " << monitor(wrong);
  for (const char* good : {"", "info status", "info name", "help", "help stop", "p 1+1", "cpu 0"})
    EXPECT_FALSE(is_monitor_error(monitor(good))) << good << ": " << monitor(good);
}

TEST_F(Monitor, CannotBeHarmedByALine) {
  EXPECT_EQ(monitor(std::string(100'000, 'x')), "the line is too long\n");
  EXPECT_THAT(monitor("p " + std::string(4000, '(')), HasSubstr("nested too deeply"));
  EXPECT_THAT(monitor("p " + std::string(4000, '-') + "1"), HasSubstr("nested too deeply"));
  EXPECT_THAT(monitor("p " + std::string(4000, '9')), HasSubstr("number too large"));
  EXPECT_THAT(monitor("x/99999999999xb 0"), HasSubstr("count is too large"));
  EXPECT_THAT(monitor("xp/4294967295xg 0"), HasSubstr("count is too large"));
  EXPECT_THAT(monitor("\x1b[2J\xff"), Not(HasSubstr("\x1b")));
  EXPECT_THAT(monitor("change \"sr0"), HasSubstr("unterminated string"));
  EXPECT_THAT(monitor("block_resize vda 99999999999999T"), HasSubstr("invalid size"));
}

TEST_F(Monitor, HelpsWithEachOfItsCommands) {
  const std::string all = monitor("help");
  for (const hmp::Command& command : hmp::commands()) EXPECT_THAT(all, HasSubstr(command.names));
  for (const hmp::Command& command : hmp::info_commands())
    EXPECT_THAT(monitor("info"), HasSubstr("info " + std::string(command.names)));
  EXPECT_EQ(monitor("? nmi"), "nmi  -- inject an NMI\n");
  EXPECT_EQ(monitor("help info kvm"), "info kvm  -- show KVM information\n");
}

TEST_F(Monitor, AnswersEveryInfoCommand) {
  for (const hmp::Command& command : hmp::info_commands()) {
    const std::string line = "info " + std::string(command.names);
    EXPECT_THAT(monitor(line), Not(HasSubstr("(no answer)"))) << line;
    EXPECT_THAT(monitor(line), Not(HasSubstr("unknown"))) << line;
  }
}

TEST_F(Monitor, CalculatesAsQemuDoes) {
  EXPECT_EQ(monitor("p 1+2*3"), "0x7\n");
  EXPECT_EQ(monitor("p (1+2)*3-~0"), "0xa\n");
  EXPECT_EQ(monitor("print 10%3"), "0x1\n");
  EXPECT_EQ(monitor("p/d -1"), "-1\n");
  EXPECT_EQ(monitor("p -1"), "0xffffffffffffffff\n");
  EXPECT_EQ(monitor("p/c 65"), "'A'\n");
  EXPECT_EQ(monitor("p/o 8"), "010\n");
  EXPECT_EQ(monitor("p 0x10|1&3^1"), "0x0\n") << "& | ^ bind alike, from the left";
  EXPECT_EQ(monitor("p 'A'"), "0x41\n");
  EXPECT_THAT(monitor("p 1/0"), StartsWith("division by zero\n"));
  EXPECT_THAT(monitor("p 1%0"), StartsWith("division by zero\n"));
  EXPECT_EQ(monitor("p (-0x7fffffffffffffff-1)/-1"), "0x8000000000000000\n");
  EXPECT_THAT(monitor("p 1 2"), HasSubstr("extraneous characters"));
  EXPECT_THAT(monitor("p"), StartsWith("unexpected end of expression\n"));
  EXPECT_THAT(monitor("p (1"), StartsWith("')' expected\n"));
  EXPECT_THAT(monitor("p x"), StartsWith("invalid char 'x' in expression\n"));
}

TEST_F(Monitor, ReadsRegistersOfARunningMachineUnnoticed) {
  machine.registers_[0].rip = 0xffffffff81000000;
  machine.registers_[0].general[0] = 0x1'0000'0002;
  std::vector<vmm::MachineEvent::Kind> events;
  context().observe_events([&](const vmm::MachineEvent& event) { events.push_back(event.kind); });
  EXPECT_EQ(monitor("p $rip"), "0xffffffff81000000\n");
  EXPECT_EQ(monitor("p $eax"), "0x2\n");
  EXPECT_EQ(monitor("p $rax+1"), "0x100000003\n");
  EXPECT_THAT(monitor("p $nope"), StartsWith("unknown register $nope\n"));
  EXPECT_EQ(machine.state_, vmm::RunState::kRunning);
  EXPECT_THAT(events, IsEmpty()) << "clients must not see STOP and RESUME";
}

TEST_F(Monitor, LeavesAPausedMachinePaused) {
  machine.state_ = vmm::RunState::kPaused;
  EXPECT_EQ(monitor("p $rip"), "0x0\n");
  EXPECT_EQ(machine.state_, vmm::RunState::kPaused);
  EXPECT_THAT(machine.log_, IsEmpty());
}

TEST_F(Monitor, PausesOnlyWhereItMust) {
  monitor("p 1");
  monitor("xp 0");
  monitor("info cpus");
  EXPECT_THAT(machine.log_, IsEmpty());
  monitor("x 0");
  EXPECT_THAT(machine.log_, ElementsAre("pause", "resume"));
}

TEST_F(Monitor, DumpsMemoryInQemusLayout) {
  poke<uint32_t>(0x1000, 0x12345678);
  poke<uint32_t>(0x1004, 0xffffffff);
  EXPECT_EQ(monitor("xp /4xw 0x1000"),
            "0000000000001000: 0x12345678 0xffffffff 0x00000000 0x00000000\n");
  EXPECT_EQ(monitor("x/5xw 0x1000"),
            "0000000000001000: 0x12345678 0xffffffff 0x00000000 0x00000000\n"
            "0000000000001010: 0x00000000\n");
  EXPECT_EQ(monitor("xp /2dw 0x1000"), "0000000000001000:  305419896         -1\n");
  EXPECT_EQ(monitor("xp /2uw 0x1000"), "0000000000001000:  305419896 4294967295\n");
  EXPECT_EQ(monitor("xp /3xh 0x1000"), "0000000000001000: 0x5678 0x1234 0xffff\n");
  EXPECT_EQ(monitor("xp /1xg 0x1000"), "0000000000001000: 0xffffffff12345678\n");
  EXPECT_EQ(monitor("xp /4cb 0x1000"), "0000000000001000: 'x' 'V' '4' '\\x12'\n");
  EXPECT_EQ(monitor("xp /2ob 0x1008"), "0000000000001008:   0   0\n");
  EXPECT_EQ(monitor("xp /9xb 0x1000"),
            "0000000000001000: 0x78 0x56 0x34 0x12 0xff 0xff 0xff 0xff\n"
            "0000000000001008: 0x00\n");
  EXPECT_THAT(monitor("x /zz 0"), StartsWith("invalid char in format: 'z'\n"));
  EXPECT_THAT(monitor("x/3i 0"), HasSubstr("gdb"));
}

TEST_F(Monitor, StopsADumpWhereMemoryEnds) {
  EXPECT_EQ(monitor("xp /2xw 0xfffffc"), "0000000000fffffc: 0x00000000 Cannot access memory\n");
  EXPECT_EQ(monitor("xp /1xg 0xfffffffffffffffc"), "fffffffffffffffc: Cannot access memory\n");
  machine.pages_ = {{0xffff800000000000, 0x3000}};
  poke<uint16_t>(0x3ffe, 0xabcd);
  EXPECT_EQ(monitor("x /2xh 0xffff800000000ffe"),
            "ffff800000000ffe: 0xabcd Cannot access memory\n");
}

TEST_F(Monitor, TranslatesAddresses) {
  machine.pages_ = {{0xffff800000000000, 0x3000}};
  EXPECT_EQ(monitor("gva2gpa 0xffff800000000123"), "gpa: 0x3123\n");
  EXPECT_EQ(monitor("gva2gpa 0"), "Unmapped\n");
  EXPECT_THAT(monitor("gpa2hva 0x1000"),
              StartsWith("Host virtual address for 0x1000 (pc.ram) is 0x"));
  EXPECT_EQ(monitor("gpa2hva 0xffffffffff"), "No memory is mapped at address 0xffffffffff\n");
  EXPECT_EQ(monitor("gpa2hpa 0xffffffffff"), "No memory is mapped at address 0xffffffffff\n");
  poke<uint8_t>(0x1000, 1);
  EXPECT_THAT(monitor("gpa2hpa 0x1000"),
              testing::AnyOf(StartsWith("Host physical address for 0x1000 (pc.ram) is 0x"),
                             HasSubstr("CAP_SYS_ADMIN")));
}

TEST_F(Monitor, PrintsRegistersAsQemuDoes) {
  vmm::CpuRegisters& r = machine.registers_[0];
  EXPECT_THAT(monitor("info registers"), HasSubstr("\nCPU#0\nEAX=00000000 EBX=00000000"));
  r.efer = 0xd01;
  r.cr0 = 0x80050033;
  r.cs = {.base = 0, .limit = 0xffffffff, .selector = 0x10, .attributes = 0xaf9b00};
  r.ss = {.base = 0, .limit = 0xffffffff, .selector = 0x18, .attributes = 0xcf9300};
  r.tr = {.base = 0x1234, .limit = 0x67, .selector = 0x40, .attributes = 0x8b00};
  r.rflags = 0x246;
  const std::string text = monitor("info registers");
  EXPECT_THAT(text, HasSubstr("RAX=0000000000000000 RBX=0000000000000000 "));
  EXPECT_THAT(text, HasSubstr("RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"));
  EXPECT_THAT(text, HasSubstr("CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]\n"));
  EXPECT_THAT(text, HasSubstr("SS =0018 0000000000000000 ffffffff 00c09300 DPL=0 DS   [-WA]\n"));
  EXPECT_THAT(text, HasSubstr("TR =0040 0000000000001234 00000067 00008b00 DPL=0 TSS64-busy\n"));
  EXPECT_THAT(text, HasSubstr("XMM15="));
  EXPECT_THAT(monitor("info registers -a"), HasSubstr("CPU#1"));
  EXPECT_THAT(monitor("info registers 1"), HasSubstr("CPU#1"));
  EXPECT_EQ(monitor("info registers 9"), "CPU#9 not available\n");
}

TEST_F(Monitor, ActsOnDevices) {
  EXPECT_EQ(monitor("set_link net0 off"), "");
  EXPECT_EQ(monitor("set_link foo on"), "Error: Device 'foo' not found\n");
  EXPECT_THAT(monitor("set_link net0 maybe"), StartsWith("Expected 'on' or 'off'\n"));
  EXPECT_EQ(monitor("block_resize vda 128M"), "");
  EXPECT_EQ(monitor("block_resize vda 1"), "");
  EXPECT_EQ(monitor("balloon 8"), "");
  EXPECT_EQ(monitor("eject -f sr0"), "");
  EXPECT_EQ(monitor("change sr0 \"/a b.iso\""), "");
  EXPECT_EQ(monitor("hostfwd_add tcp::2222-:22"), "");
  EXPECT_EQ(monitor("hostfwd_remove net0 tcp::2222"),
            "host forwarding rule for tcp::2222 removed\n");
  EXPECT_THAT(
      machine.log_,
      ElementsAre("set_link net0 down", "resize_disk vda 134217728", "resize_disk vda 1048576",
                  "set_balloon 8388608", "eject sr0 force", "change_medium sr0 /a b.iso",
                  "add_forward net0 tcp::2222-:22", "remove_forward net0 tcp::2222"));
  EXPECT_EQ(monitor("hostfwd_add nope tcp::1-:1"), "unrecognized netdev id 'nope'\n");
}

TEST_F(Monitor, PlugsDevices) {
  EXPECT_EQ(monitor("drive_add dummy file=/d.raw,id=d1,format=raw"), "OK\n");
  EXPECT_EQ(monitor("device_add virtio-blk-pci,drive=d1,id=vdb"), "");
  EXPECT_EQ(monitor("netdev_add user,id=n1"), "");
  EXPECT_EQ(monitor("device_add virtio-net-pci,netdev=n1,id=net1"), "");
  EXPECT_THAT(machine.log_, ElementsAre("add_disk vdb /d.raw", "add_card net1"));
  EXPECT_EQ(monitor("device_add virtio-blk-pci,drive=d1,num-queues=2x"),
            "Error: Parameter 'num-queues' expects a number\n");
  EXPECT_EQ(monitor("drive_add dummy file=/a,,b.raw,id=d2,format=raw"), "OK\n");
  EXPECT_EQ(monitor("device_add virtio-blk-pci,drive=d2,id=vdc"), "");
  EXPECT_EQ(machine.log_.back(), "add_disk vdc /a,b.raw");
  machine.log_.clear();
  EXPECT_EQ(monitor("netdev_add user,id=n2,hostfwd=tcp::2222-:22,hostfwd=udp::53-:53"), "");
  EXPECT_EQ(monitor("device_add e1000,netdev=n2,id=net2"), "");
  EXPECT_THAT(machine.log_, ElementsAre("add_card net2", "add_forward net2 tcp::2222-:22",
                                        "add_forward net2 udp::53-:53"));
  // Nothing throws.
  for (const char* odd :
       {"user,id=a,hostfwd,hostfwd=tcp::1-:2", "user,id=b,=x", "hostfwd", "=", ","})
    (void)monitor(std::string("netdev_add ") + odd);
  EXPECT_EQ(monitor("device_add nope"), "Error: 'nope' is not a valid device model name\n");
  EXPECT_EQ(monitor("device_add id=x"), "Error: Parameter 'driver' is missing\n");
}

TEST_F(Monitor, SendsSysRqToTheFirstConsole) {
  EXPECT_THAT(monitor("sendkey a"), HasSubstr("no keyboard"));
  EXPECT_THAT(monitor("sendkey alt-sysrq-t"), HasSubstr("nothing can be typed"));
  EXPECT_THAT(machine.log_, IsEmpty());
}

TEST_F(Monitor, SendsSysRqToTheConsoleOnlyWithoutAKeyboard) {
  hooks.type = [this](const std::string& console, const std::string& text) {
    return machine.type(console, text);
  };
  EXPECT_EQ(monitor("sendkey alt-sysrq-t"), "");
  EXPECT_EQ(monitor("sendkey alt-sysrq-?"), "") << "a key without a name";
  EXPECT_THAT(machine.log_,
              ElementsAre("send_break ttyS0", "type ttyS0 t", "send_break ttyS0", "type ttyS0 ?"));
  machine.log_.clear();
  machine.keyboard_ = true;
  EXPECT_EQ(monitor("sendkey alt-sysrq-t"), "");
  EXPECT_THAT(machine.log_, ElementsAre("send_keys 56 99 20 for 100"));
}

TEST_F(Monitor, SendsKeys) {
  machine.keyboard_ = true;
  EXPECT_EQ(monitor("sendkey ctrl-alt-delete"), "");
  EXPECT_EQ(monitor("sendkey a 200"), "");
  EXPECT_EQ(monitor("sendkey 0x1e-minus"), "");
  EXPECT_THAT(machine.log_, ElementsAre("send_keys 29 56 111 for 100", "send_keys 30 for 200",
                                        "send_keys 30 12 for 100"));
  machine.log_.clear();
  EXPECT_EQ(monitor("sendkey ctrl-nope"), "unknown key: 'nope'\n");
  EXPECT_THAT(monitor("sendkey a -1"), HasSubstr("from 0 to 60000"));
  EXPECT_THAT(monitor("sendkey a 60001"), HasSubstr("from 0 to 60000"));
  EXPECT_THAT(machine.log_, IsEmpty());
}

TEST_F(Monitor, RefusesSnapshotsClearly) {
  EXPECT_THAT(monitor("savevm"), HasSubstr("no snapshots of running machines"));
  EXPECT_THAT(monitor("loadvm a"), HasSubstr("no snapshots of running machines"));
}

TEST_F(Monitor, ChangesTheDefaultCpu) {
  machine.registers_[1].rip = 5;
  EXPECT_EQ(monitor("cpu 1"), "");
  EXPECT_EQ(monitor("p $rip"), "0x5\n");
  EXPECT_EQ(monitor("cpu 2"), "invalid CPU index\n");
  EXPECT_EQ(monitor("info cpus"), "  CPU #0: thread_id=1000\n* CPU #1: thread_id=1001\n");
}

TEST_F(Monitor, TellsOfDisksCardsAndTheMachine) {
  EXPECT_EQ(monitor("info status"), "VM status: running\n");
  machine.state_ = vmm::RunState::kPanicked;
  EXPECT_EQ(monitor("info status"), "VM status: paused (guest-panicked)\n");
  EXPECT_THAT(monitor("info block"),
              StartsWith("vda (vda): /nonexistent/disk.qcow2 (qcow2)\n"
                         "    Attached to:      /machine/peripheral/vda/virtio-backend\n"
                         "    Cache mode:       writeback\n\nsr0 (sr0): "));
  EXPECT_THAT(monitor("info block"), HasSubstr("    Removable device: not locked, tray closed\n"));
  EXPECT_EQ(monitor("info block nope"), "");
  EXPECT_EQ(monitor("info network"),
            "net0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\n"
            " \\ net0: index=0,type=user,net=10.0.2.0,restrict=off\n");
  EXPECT_EQ(monitor("info uuid"), "00000000-0000-0000-0000-000000000000\n");
  EXPECT_EQ(monitor("info pci"), "PCI bus is not available\n");
}

TEST_F(Monitor, ShowsNamesFromImagesWithoutTheirControlCharacters) {
  machine.disks_[0].backing_path = "\x1b]0;owned\x07\r\n";
  EXPECT_THAT(monitor("info block"), HasSubstr("\\x1b]0;owned\\x07"));
}

TEST_F(Monitor, ShowsPromptsAndBoundsItsInput) {
  std::string screen;
  MonitorSession session(context(),
                         {.send = [&](std::string_view text) { screen += text; }, .ready = {}});
  const auto type = [&](std::string_view text) {
    screen.clear();
    session.receive(text);
    while (session.run_one()) {
    }
    return screen;
  };
  EXPECT_TRUE(screen.ends_with("(wick) "));
  EXPECT_EQ(type("info sta"), "");
  EXPECT_EQ(type("tus\r\n"), "VM status: running\r\n(wick) ");
  EXPECT_EQ(type("\n\n"), "(wick) (wick) ");
  EXPECT_EQ(type("p 1\np 2\n"), "0x1\r\n(wick) 0x2\r\n(wick) ");
  EXPECT_EQ(type(std::string(16384, 'a')), "the line is too long\r\n(wick) ");
  for (int i = 0; i < 640; ++i) EXPECT_EQ(type(std::string(16384, 'a')), "");
  EXPECT_EQ(type("a\np 3\n"), "0x3\r\n(wick) ");
}

}  // namespace
}  // namespace wick::control
