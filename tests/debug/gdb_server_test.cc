// The server with real clients: gdb, and sockets that behave badly.
#include "debug/gdb_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/process.h"
#include "tests/debug/toy_cpus.h"
#include "tests/fakes/fake_machine.h"
#include "tests/fakes/temp_dir.h"
#include "tests/fakes/wait_for.h"

namespace wick::debug {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using vmm::MachineEvent;
using vmm::RunState;

constexpr uint64_t kCode = 0x1000;
constexpr uint64_t kData = 0x3000;
constexpr uint64_t kMapped = 0x20'0000;  // a linear address of the code's page

// A machine whose vCPUs execute an endless loop, and its gdb server.
class Served {
 public:
  template <typename Function>
  auto on_loop(Function function) {
    return thread_->loop().call(function);
  }

  Served() {
    // nop x4; mov byte [kData], 42; nop; nop; jmp kCode
    const std::string code("\x90\x90\x90\x90\xc6\x04\x25\x00\x30\x00\x00\x2a\x90\x90\xeb\xf0", 16);
    (void)machine_.memory().write_bytes({kCode}, std::as_bytes(std::span(code)));
    machine_.pages_ = {{0, 0}, {kCode, kCode}, {kData, kData}, {kMapped, kCode}};
    for (uint32_t cpu = 0; cpu < 2; ++cpu) machine_.registers_[cpu].rip = kCode;
    start(StreamAddress::parse("unix:" + (dir_ / "gdb")).value());
  }
  ~Served() {
    on_loop([this] { server_.reset(); });
    thread_->stop();
  }

  void start(const StreamAddress& address) {
    on_loop([this, address] {
      const auto monitor = [](std::string line, std::function<void(std::string)> answer) {
        answer("you said " + line + "\n");
      };
      server_.reset();
      server_ = GdbServer::start(thread_->loop(), machine_, address, monitor).value();
    });
  }

  // The output of a gdb that connects and executes `commands`.
  std::string gdb(const std::vector<std::string>& commands) {
    const StreamAddress& at = server_->address();
    const std::string target = at.path.empty() ? fmt::format("{}:{}", at.host, at.port) : at.path;
    std::vector<std::string> words = {"gdb", "-nx", "-batch"};
    const auto add = [&](const std::string& command) {
      words.push_back("-ex");
      words.push_back(command);
    };
    for (const char* setting : {"set confirm off", "set pagination off", "set width 0",
                                "set remotetimeout 60", "set tcp connect-timeout 60"})
      add(setting);
    add("target remote " + target);
    for (const std::string& command : commands) add(command);
    const auto outcome = run_process(words);
    return outcome ? outcome->output + outcome->errors : outcome.error().message();
  }

  bool eventually(RunState state) {
    return fakes::wait_for([&] { return on_loop([&] { return machine_.state_ == state; }); });
  }

  fakes::TempDir dir_;
  vmm::FakeMachine machine_;
  std::unique_ptr<LoopThread> thread_ = LoopThread::start("gdb-test").value();
  ToyCpus cpus_{thread_->loop(), machine_};
  std::unique_ptr<GdbServer> server_;
};

// The messages that are logged at level info while the object exists.
class InfoLog {
 public:
  InfoLog() {
    auto logger = std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_));
    logger->set_pattern("%v");
    logger->set_level(spdlog::level::info);
    spdlog::set_default_logger(logger);
  }
  ~InfoLog() { spdlog::set_default_logger(before_); }
  std::string text() const { return text_.str(); }

 private:
  const std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
  std::ostringstream text_;
};

// What a socket receives until `enough` is in it, or the server closes it.
std::string receive(const Fd& socket, std::string_view enough) {
  std::string all;
  while (all.find(enough) == std::string::npos) {
    pollfd ready{.fd = socket.get(), .events = POLLIN, .revents = 0};
    char buffer[4096];
    if (::poll(&ready, 1, 20'000) != 1) return all + "(timeout)";
    const ssize_t got = ::read(socket.get(), buffer, sizeof(buffer));
    if (got <= 0) return all + "(closed)";
    all.append(buffer, static_cast<size_t>(got));
  }
  return all;
}

void send(const Fd& socket, std::string_view bytes) {
  ASSERT_EQ(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

TEST(GdbServer, LogsThePortThatTheKernelHasChosen) {
  Served served;
  const InfoLog log;
  served.start(StreamAddress::parse("tcp::0").value());
  const uint16_t port = served.server_->address().port;
  EXPECT_NE(port, 0);
  EXPECT_EQ(log.text(), fmt::format("gdb: listening on tcp:127.0.0.1:{}\n", port));
}

TEST(GdbServer, ShowsGdbTheRegisters) {
  Served served;
  auto& cpu = served.machine_.registers_[0];
  cpu.general[3] = 0x1234;
  cpu.gs.base = 0xffff'8880'0000'0000;
  cpu.cr0 = 0x8000'0001;
  cpu.efer = 0x500;
  served.machine_.msrs_[0xc000'0102] = 0x77;
  served.machine_.fpus_[0].xmm[3][0] = std::byte{0x21};
  served.machine_.fpus_[0].ymm_high[3][0] = std::byte{0x43};
  const std::string shown =
      served.gdb({"info registers", "p $ymm3.v32_int8[0]", "p $ymm3.v32_int8[16]",
                  "p $xmm3.v16_int8[0]", "info registers float", "p/x $ftag"});
  EXPECT_THAT(shown, ContainsRegex("rbx +0x1234"));
  EXPECT_THAT(shown, ContainsRegex("gs_base +0xffff888000000000"));
  EXPECT_THAT(shown, ContainsRegex("k_gs_base +0x77"));
  EXPECT_THAT(shown, ContainsRegex("cr0 +0x80000001 +\\[ PG PE \\]"));
  EXPECT_THAT(shown, ContainsRegex("efer +0x500 +\\[ LMA LME \\]"));
  EXPECT_THAT(shown, HasSubstr("$1 = 33\n$2 = 67\n$3 = 33\n"));
  EXPECT_THAT(shown, HasSubstr("$4 = 0xffff")) << "all x87 registers are empty";
}

TEST(GdbServer, LetsGdbWriteRegisters) {
  Served served;
  served.gdb({"set $rbx = 0x55", "set $eflags = 0x246", "set $fs_base = 0x1000",
              "set $cr3 = 0x2000UL", "set $xmm1.v2_int64[1] = 7", "set $ymm2.v32_int8[31] = 9",
              "set $mxcsr = 0x1f80", "set $st0 = 1.0", "set $fctrl = 0x37f", "set $rip = 0x100c"});
  const auto& cpu = served.machine_.registers_[0];
  const auto& fpu = served.machine_.fpus_[0];
  EXPECT_EQ(cpu.general[3], 0x55u);
  EXPECT_EQ(cpu.rflags, 0x246u);
  EXPECT_EQ(cpu.fs.base, 0x1000u);
  EXPECT_EQ(cpu.cr3, 0x2000u);
  EXPECT_EQ(fpu.xmm[1][8], std::byte{7});
  EXPECT_EQ(fpu.ymm_high[2][15], std::byte{9});
  EXPECT_EQ(fpu.mxcsr, 0x1f80u);
  EXPECT_EQ(fpu.st[0][9], std::byte{0x3f});
  EXPECT_EQ(fpu.control, 0x37fu);
  EXPECT_EQ(cpu.rip, 0x100cu);
}

TEST(GdbServer, RefusesGdbARegisterThatCannotBeWritten) {
  Served served;
  EXPECT_THAT(served.gdb({"set $k_gs_base = 5"}), HasSubstr("Could not write register"));
}

TEST(GdbServer, ShowsAndWritesMemory) {
  Served served;
  const std::string shown = served.gdb({"x/3xb 0x1002", "set *(int*)0x3010 = 0x01020304",
                                        "x/xw 0x3010", "x/xb 0x5000", "x/2i 0x1004"});
  EXPECT_THAT(shown, ContainsRegex("0x1002:\t0x90\t0x90\t0xc6"));
  EXPECT_THAT(shown, ContainsRegex("0x3010:\t0x01020304"));
  EXPECT_THAT(shown, HasSubstr("Cannot access memory at address 0x5000"));
  EXPECT_THAT(shown, ContainsRegex("movb +\\$0x2a,0x3000"));
}

TEST(GdbServer, SwitchesToPhysicalMemory) {
  Served served;
  const std::string shown = served.gdb({"x/xb 0x5000", "maint packet Qqemu.PhyMemMode:1",
                                        "x/xb 0x5000", "maint packet qqemu.PhyMemMode"});
  EXPECT_THAT(shown, ContainsRegex("Cannot access memory at address 0x5000"));
  EXPECT_THAT(shown, ContainsRegex("0x5000:\t0x00"));
  EXPECT_THAT(shown, HasSubstr("received: \"1\""));
}

TEST(GdbServer, StopsAtBreakpointsOfAllKinds) {
  Served served;
  const std::string shown = served.gdb(
      {"break *0x1002", "continue", "info threads", "delete", "hbreak *0x100c", "continue",
       "delete", "watch *(char*)0x3000", "set *(char*)0x3000 = 0", "continue", "p $pc"});
  EXPECT_THAT(shown, HasSubstr("Breakpoint 1, 0x0000000000001002"));
  EXPECT_THAT(shown, ContainsRegex("1 +Thread 1.1 \\(CPU#0 \\[running\\]\\)"));
  EXPECT_THAT(shown, ContainsRegex("2 +Thread 1.2 \\(CPU#1 \\[running\\]\\)"));
  EXPECT_THAT(shown, HasSubstr("Breakpoint 2, 0x000000000000100c"));
  EXPECT_THAT(shown, HasSubstr("Hardware watchpoint 3"));
  EXPECT_THAT(shown, ContainsRegex("New value = 42"));
}

TEST(GdbServer, StepsOverBreakpointsThatStayInserted) {
  Served served;
  const std::string shown = served.gdb(
      {"set breakpoint always-inserted on", "break *0x1002", "break *0x1003", "continue", "stepi",
       "p $pc", "set scheduler-locking on", "thread 2", "stepi", "p $pc", "info breakpoints"});
  EXPECT_THAT(shown, HasSubstr("Breakpoint 1, "));
  EXPECT_THAT(shown, HasSubstr("$1 = (void (*)()) 0x1003"));
  EXPECT_THAT(shown, Not(HasSubstr("SIGTRAP, Trace/breakpoint trap.")));
}

TEST(GdbServer, RefusesABreakpointThatIsNotMapped) {
  Served served;
  EXPECT_THAT(served.gdb({"break *0xffffffff81000000", "continue"}),
              HasSubstr("Cannot insert breakpoint 1."));
}

TEST(GdbServer, PassesMonitorCommandsOn) {
  Served served;
  EXPECT_THAT(served.gdb({"monitor help"}), HasSubstr("you said help"));
}

TEST(GdbServer, LetsTheMachineRunAfterADetach) {
  Served served;
  EXPECT_THAT(served.gdb({"break *0x1002", "set breakpoint always-inserted on", "detach"}),
              HasSubstr("detached"));
  EXPECT_TRUE(served.eventually(RunState::kRunning));
  EXPECT_EQ(*served.machine_.memory().find({0x1002}, 1), std::byte{0x90});
}

TEST(GdbServer, ServesOneGdbAfterTheOther) {
  Served served;
  for (int i = 0; i < 3; ++i) EXPECT_THAT(served.gdb({"p $pc"}), HasSubstr("$1 = "));
}

TEST(GdbServer, ServesGdbOverTcp) {
  Served served;
  served.start(StreamAddress::parse("tcp::0").value());
  EXPECT_THAT(served.gdb({"p $pc"}), HasSubstr("$1 = (void (*)()) 0x1000"));
}

TEST(GdbServer, TellsGdbTheEndOfTheMachine) {
  Served served;
  served.machine_.on_resume_cpus_ = [&] {
    served.thread_->loop().post([&] {
      served.machine_.publish(
          {.kind = MachineEvent::Kind::kShutdown, .guest = true, .reason = "guest-shutdown"});
    });
  };
  EXPECT_THAT(served.gdb({"continue"}), HasSubstr("[Inferior 1 (process 1) exited normally]"));
}

TEST(GdbServer, RefusesASecondClient) {
  Served served;
  const Fd first = connect_stream(served.server_->address()).value();
  send(first, "$?#3f");
  EXPECT_THAT(receive(first, "#"), HasSubstr("$T05"));
  const Fd second = connect_stream(served.server_->address()).value();
  EXPECT_EQ(receive(second, "#"), "(closed)");
  send(first, "$qC#b4");
  EXPECT_THAT(receive(first, "#"), HasSubstr("$QC01"));
}

TEST(GdbServer, DetachesAClientThatGoesAway) {
  Served served;
  {
    const Fd client = connect_stream(served.server_->address()).value();
    send(client, frame_packet("Z0,1002,1") + frame_packet("vCont;s:1"));
    EXPECT_THAT(receive(client, "T05"), HasSubstr("OK"));
    EXPECT_EQ(*served.machine_.memory().find({0x1002}, 1), std::byte{0xcc});
  }
  EXPECT_TRUE(served.eventually(RunState::kRunning));
  EXPECT_EQ(*served.machine_.memory().find({0x1002}, 1), std::byte{0x90});
  EXPECT_THAT(served.gdb({"p 5"}), HasSubstr("$1 = 5"));
}

TEST(GdbServer, ClosesAClientThatDoesNotReadItsAnswers) {
  Served served;
  const Fd client = connect_stream(served.server_->address()).value();
  std::string flood;
  for (int i = 0; i < 100; ++i) flood += frame_packet("m0,1000");
  // The answers are a hundred times as long, and a connection keeps a bounded number of bytes.
  EXPECT_TRUE(fakes::wait_for([&] {
    const ssize_t put =
        ::send(client.get(), flood.data(), flood.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return put < 0 && errno == EPIPE;
  }));
  EXPECT_TRUE(served.eventually(RunState::kRunning));
}

}  // namespace
}  // namespace wick::debug
