// The control of a running machine by vmm::Machine, with guests of a few instructions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/fakes/temp_dir.h"
#include "tests/guests/tiny_guest.h"
#include "vmm/machine.h"

namespace wick::vmm {
namespace {

using testing::ElementsAre;
using namespace std::chrono_literals;

constexpr uint32_t kFirst = 0x30'0000;  // counters in the guest's RAM
constexpr uint32_t kSecond = 0x30'1000;

// Counts up the 32-bit number at rbx for ever.
guests::Code counting() {
  guests::Code code;
  code.byte(0xbb).byte(0).byte(0).byte(0x30).byte(0);  // mov ebx, kFirst
  const auto again = code.here();
  code.byte(0xff).byte(0x03);  // inc dword [rbx]
  return code.jump(again);
}

class ControlTest : public testing::Test {
 protected:
  void build(const guests::Code& code) {
    config_.kernel_path = folder_.write("kernel", guests::bzimage(code));
    config_.memory_bytes = 32 << 20;
    machine_ = Machine::create(config_, *loop_).value();
    subscription_ = machine_->subscribe([this](const MachineEvent& event) {
      events_.push_back(event.kind);
      last_event_ = event;
    });
  }
  // Runs the machine, and `script` on its main loop; ends after `script` has called finish().
  RunReport run(std::function<void()> script) {
    begin_ = loop_->timer(std::move(script)).value();
    begin_.arm(200ms);
    const auto limit = loop_->timer([this] { machine_->end(Ending::kTimeout); }).value();
    limit.arm(60s);
    return machine_->run();
  }
  // As run(), when the guest of counting() has begun to count.
  RunReport run_when_it_counts(const std::function<void()>& script) {
    return run([this, script] {
      if (counter() > 0) return script();
      begin_.arm(20ms);
    });
  }
  void finish() { machine_->end(Ending::kQuit); }
  void after(std::chrono::microseconds delay, std::function<void()> then) {
    timers_.push_back(loop_->timer(std::move(then)).value());
    timers_.back().arm(delay);
  }
  uint32_t counter(uint64_t address = kFirst) {
    return machine_->inspector().memory().read<uint32_t>({address}).value();
  }

  const fakes::TempDir folder_;
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  EventLoop::Timer begin_;
  std::vector<EventLoop::Timer> timers_;
  MachineConfig config_;
  std::unique_ptr<Machine> machine_;
  std::vector<MachineEvent::Kind> events_;
  MachineEvent last_event_;
  Machine::Subscription subscription_;
};

using Kind = MachineEvent::Kind;

template <typename T>
T unwrap(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message());
  return *std::move(result);
}

TEST_F(ControlTest, APausedMachineDoesNothingUntilItIsResumed) {
  build(counting());
  uint32_t paused_at = 0;
  run_when_it_counts([&] {
    EXPECT_EQ(machine_->inspector().registers(0).error().code, EBUSY);
    machine_->pause(RunState::kPaused, [&] {
      paused_at = counter();
      EXPECT_GT(paused_at, 0u);
      EXPECT_EQ(machine_->state(), RunState::kPaused);
      after(300ms, [&] {
        EXPECT_EQ(counter(), paused_at);
        machine_->resume();
        EXPECT_EQ(machine_->state(), RunState::kRunning);
        after(300ms, [&] {
          EXPECT_GT(counter(), paused_at);
          finish();
        });
      });
    });
  });
  EXPECT_THAT(events_, ElementsAre(Kind::kStop, Kind::kResume, Kind::kShutdown));
  EXPECT_EQ(last_event_.reason, "host-qmp-quit");
  EXPECT_FALSE(last_event_.guest);
}

TEST_F(ControlTest, PausesThatCrossEachOtherAllEnd) {
  build(counting());
  int paused = 0;
  run_when_it_counts([&] {
    machine_->pause(RunState::kPaused, [&] { ++paused; });
    machine_->pause(RunState::kPaused, [&] { ++paused; });
    machine_->resume();  // before the vCPU has stopped
    after(300ms, [&] {
      EXPECT_EQ(machine_->state(), RunState::kRunning);
      const uint32_t now = counter();
      after(100ms, [&, now] {
        EXPECT_GT(counter(), now);
        machine_->pause(RunState::kPaused, [&] {
          machine_->pause(RunState::kPaused, [&] { ++paused; });
          machine_->resume();
          machine_->resume();
          finish();
        });
      });
    });
  });
  EXPECT_EQ(paused, 3);
}

TEST_F(ControlTest, RegistersCanBeReadAndWritten) {
  build(counting());
  run_when_it_counts([&] {
    machine_->pause(RunState::kPaused, [&] {
      Inspector& inspector = machine_->inspector();
      CpuRegisters registers = unwrap(inspector.registers(0));
      EXPECT_EQ(registers.general[3], kFirst);  // rbx
      EXPECT_NE(registers.cr3, 0u);
      EXPECT_EQ(registers.efer & 0x500, 0x500u);         // LME, LMA
      EXPECT_NE(registers.cs.attributes & 1 << 21, 0u);  // 64-bit code
      registers.general[3] = kSecond;
      registers.general[15] = 0x1234'5678'9abc'def0;
      ASSERT_TRUE(inspector.set_registers(0, registers));
      FpuRegisters fpu = unwrap(inspector.fpu(0));
      EXPECT_EQ(fpu.control, 0x37f);
      fpu.xmm[7][3] = std::byte{0x5a};
      fpu.st[1][9] = std::byte{0x40};
      ASSERT_TRUE(inspector.set_fpu(0, fpu));
      EXPECT_EQ(inspector.translate(0, kFirst + 5), GuestAddress{kFirst + 5});
      EXPECT_FALSE(inspector.translate(0, 0xffff'8000'0000'0000));
      EXPECT_TRUE(inspector.read_msr(0, 0xc000'0080));  // EFER
      machine_->resume();
      after(200ms, [&] {
        machine_->pause(RunState::kPaused, [&] {
          EXPECT_GT(counter(kSecond), 0u);
          EXPECT_EQ(inspector.registers(0)->general[15], 0x1234'5678'9abc'def0u);
          EXPECT_EQ(inspector.fpu(0)->xmm[7][3], std::byte{0x5a});
          EXPECT_EQ(inspector.fpu(0)->st[1][9], std::byte{0x40});
          finish();
        });
      });
    });
  });
}

// rip is at one of the loop's two instructions: inc (2 bytes, from ff on) or jmp (5 bytes).
uint64_t start_of_loop(Inspector& inspector) {
  const uint64_t rip = unwrap(inspector.registers(0)).rip;
  return inspector.memory().read<uint8_t>({rip}).value() == 0xff ? rip : rip - 2;
}

TEST_F(ControlTest, ADebuggerStepsByOneInstruction) {
  build(counting());
  std::vector<uint64_t> addresses;
  const CpuRun step[] = {CpuRun::kStep};
  run_when_it_counts([&] {
    machine_->pause(RunState::kDebug, [&] {
      ASSERT_TRUE(machine_->inspector().attach_debugger([&](const DebugStop& stop) {
        EXPECT_EQ(stop.kind, DebugStop::Kind::kSingleStep);
        addresses.push_back(stop.address);
        if (addresses.size() == 100)
          finish();
        else
          ASSERT_TRUE(machine_->inspector().resume_cpus(step));
      }));
      ASSERT_TRUE(machine_->inspector().resume_cpus(step));
    });
  });
  ASSERT_EQ(addresses.size(), 100u);
  EXPECT_EQ(addresses[0], addresses[2]);  // a loop of two instructions
  EXPECT_NE(addresses[0], addresses[1]);
  EXPECT_EQ(addresses[1], addresses[99]);
}

// QEMU's emulation of SVM does not intercept INT3 (target/i386, raise_interrupt2), and does not
// insert the breakpoints of the DR7 that VMRUN loads. So these need the Intel lab or a real CPU.
class IntelLabControl : public ControlTest {};

TEST_F(IntelLabControl, ADebuggerGetsStepsAndHardwareBreakpointsLong) {
  build(counting());
  std::vector<DebugStop> stops;
  uint64_t start = 0;
  const CpuRun step[] = {CpuRun::kStep};
  const CpuRun go[] = {CpuRun::kContinue};
  const auto stopped = [&](const DebugStop& stop) {
    Inspector& inspector = machine_->inspector();
    stops.push_back(stop);
    EXPECT_EQ(machine_->state(), RunState::kDebug);
    const uint64_t rip = unwrap(inspector.registers(0)).rip;
    if (stops.size() <= 2) {
      EXPECT_EQ(stop.kind, DebugStop::Kind::kSingleStep);
      EXPECT_EQ(stop.address, rip);
    }
    if (stops.size() == 1) {
      ASSERT_TRUE(inspector.resume_cpus(step));
    } else if (stops.size() == 2) {
      EXPECT_NE(stops[0].address, stop.address);
      const HardwareBreakpoint watch[] = {
          {.address = kFirst, .length_bytes = 4, .kind = HardwareBreakpoint::Kind::kWrite}};
      ASSERT_TRUE(inspector.set_hardware_breakpoints(watch));
      ASSERT_TRUE(inspector.resume_cpus(go));
    } else if (stops.size() == 3) {
      EXPECT_EQ(stop.kind, DebugStop::Kind::kHardware);
      EXPECT_EQ(stop.dr6 & 0xf, 1u);
      EXPECT_EQ(rip, start + 2);  // a trap, after the write
      const HardwareBreakpoint execute[] = {{.address = start}};
      ASSERT_TRUE(inspector.set_hardware_breakpoints(execute));
      ASSERT_TRUE(inspector.resume_cpus(go));
    } else if (stops.size() == 4) {
      EXPECT_EQ(stop.kind, DebugStop::Kind::kHardware);
      EXPECT_EQ(stop.address, start);
      ASSERT_TRUE(inspector.attach_debugger({}));
      const uint32_t now = counter();
      machine_->resume();
      after(200ms, [this, now] {
        EXPECT_GT(counter(), now + 1) << "nothing stops it any more";
        finish();
      });
    }
  };
  run_when_it_counts([&] {
    machine_->pause(RunState::kDebug, [&] {
      Inspector& inspector = machine_->inspector();
      start = start_of_loop(inspector);
      ASSERT_TRUE(inspector.attach_debugger(stopped));
      ASSERT_TRUE(inspector.resume_cpus(step));
    });
  });
  EXPECT_EQ(stops.size(), 4u);
}

TEST_F(IntelLabControl, ABreakpointStopsTheMachineOrIsPassedToTheGuestLong) {
  build(counting());
  std::vector<DebugStop> stops;
  uint64_t start = 0;
  const RunReport report = run_when_it_counts([&] {
    machine_->pause(RunState::kDebug, [&] {
      Inspector& inspector = machine_->inspector();
      start = start_of_loop(inspector);
      ASSERT_TRUE(inspector.attach_debugger([&](const DebugStop& stop) {
        stops.push_back(stop);
        if (stops.size() == 1) {
          ASSERT_TRUE(inspector.memory().write<uint8_t>({start}, 0xff));
          const CpuRun step[] = {CpuRun::kStep};
          ASSERT_TRUE(inspector.resume_cpus(step));
        } else if (stops.size() == 2) {
          ASSERT_TRUE(inspector.memory().write<uint8_t>({start}, 0xcc));
          machine_->resume();
        } else {
          ASSERT_TRUE(inspector.pass_breakpoint(0));
          machine_->resume();
        }
      }));
      ASSERT_TRUE(inspector.memory().write<uint8_t>({start}, 0xcc));
      machine_->resume();
    });
  });
  ASSERT_EQ(stops.size(), 3u);
  EXPECT_EQ(stops[0].kind, DebugStop::Kind::kBreakpoint);
  EXPECT_EQ(stops[0].address, start);
  EXPECT_EQ(stops[1].kind, DebugStop::Kind::kSingleStep);
  EXPECT_EQ(stops[1].address, start + 2);
  EXPECT_EQ(stops[2].address, start);
  // The guest has no handler for it.
  EXPECT_EQ(report.ending, Ending::kTripleFault);
}

TEST_F(ControlTest, AResetByTheHostStartsTheGuestAnew) {
  build(counting());
  run_when_it_counts([&] {
    ASSERT_TRUE(machine_->inspector().memory().write<uint32_t>({kSecond}, 7));
    machine_->reset();
    after(500ms, [&] {
      EXPECT_EQ(counter(kSecond), 0u);
      EXPECT_GT(counter(), 0u);
      finish();
    });
  });
  EXPECT_THAT(events_, ElementsAre(Kind::kReset, Kind::kShutdown));
}

TEST_F(ControlTest, AnEndRightAfterAResetIsNotLost) {
  build(counting());
  const RunReport report = run_when_it_counts([&] {
    machine_->reset();
    machine_->end(Ending::kSignal, 15);
  });
  EXPECT_EQ(report.ending, Ending::kSignal);
}

// The resume may come before the vCPU of the new board has reported that it stands still.
TEST_F(ControlTest, AResumeRightAfterAResetLeavesNoVcpuTakenForStopped) {
  build(counting());
  int rounds = 0;
  std::function<void()> round = [&] {
    machine_->pause(RunState::kPaused, [&] {
      machine_->reset();
      after(30ms, [&] {
        machine_->resume();
        after(100ms, [&] {
          EXPECT_EQ(machine_->state(), RunState::kRunning);
          EXPECT_FALSE(machine_->inspector().registers(0)) << "it is running";
          if (++rounds == 5) return finish();
          round();
        });
      });
    });
  };
  run(round);
  EXPECT_EQ(rounds, 5);
}

TEST_F(ControlTest, APausedMachineThatIsResetStaysPaused) {
  build(counting());
  run_when_it_counts([&] {
    machine_->pause(RunState::kPaused, [&] {
      machine_->reset();
      after(500ms, [&] {
        EXPECT_EQ(machine_->state(), RunState::kPaused);
        EXPECT_EQ(counter(), 0u);
        machine_->resume();
        after(300ms, [&] {
          EXPECT_GT(counter(), 0u);
          finish();
        });
      });
    });
  });
}

TEST_F(ControlTest, AMachineCanStartPaused) {
  config_.start_paused = true;
  build(counting());
  run([&] {
    EXPECT_EQ(machine_->state(), RunState::kPaused);
    EXPECT_EQ(counter(), 0u);
    EXPECT_TRUE(machine_->inspector().registers(0));
    machine_->resume();
    after(300ms, [&] {
      EXPECT_GT(counter(), 0u);
      finish();
    });
  });
}

TEST_F(ControlTest, APausedMachineCanBeEnded) {
  build(counting());
  run_when_it_counts([&] { machine_->pause(RunState::kPaused, [&] { finish(); }); });
  EXPECT_THAT(events_, ElementsAre(Kind::kStop, Kind::kShutdown));
}

// Thread 0 of the guest reads the time-stamp counter into memory for ever.
TEST_F(ControlTest, TheTimeStampCounterStandsStillDuringAPause) {
  guests::Code code;
  code.byte(0xbb).byte(0).byte(0).byte(0x30).byte(0);  // mov ebx, kFirst
  const auto again = code.here();
  code.byte(0x0f).byte(0x31);             // rdtsc
  code.byte(0x89).byte(0x03);             // mov [rbx], eax
  code.byte(0x89).byte(0x53).byte(0x04);  // mov [rbx + 4], edx
  code.jump(again);
  build(code);
  const auto tsc = [this] {
    return machine_->inspector().memory().read<uint64_t>({kFirst}).value();
  };
  run([&] {
    const uint64_t first = tsc();
    after(500ms, [&, first] {
      machine_->pause(RunState::kPaused, [&, first] {
        const uint64_t before = tsc();
        const uint64_t half_a_second = before - first;
        after(5s, [&, before, half_a_second] {
          machine_->resume();
          after(100ms, [&, before, half_a_second] {
            machine_->pause(RunState::kPaused, [&, before, half_a_second] {
              EXPECT_GT(tsc(), before);
              EXPECT_LT(tsc() - before, 6 * half_a_second) << "five seconds are ten times as much";
              finish();
            });
          });
        });
      });
    });
  });
}

}  // namespace
}  // namespace wick::vmm
