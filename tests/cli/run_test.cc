#include "cli/run.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "console/open.h"
#include "console/terminal.h"
#include "tests/console/fakes.h"
#include "tests/fakes/temp_dir.h"

#include "tests/fakes/fake_machine.h"

namespace wick::cli {
namespace {

// A machine that runs until end() is called, like a hanging guest.
class HangingMachine : public vmm::FakeMachine {
 public:
  explicit HangingMachine(EventLoop& loop) : loop_(loop) {}

  vmm::RunReport run() override {
    loop_.run();
    return report_;
  }
  void end(vmm::Ending ending, int signal) override {
    if (ended_) return;
    ended_ = true;
    report_.ending = ending;
    report_.signal = signal;
    loop_.stop();
  }
  void press_power_button() override { ++presses_; }
  int presses() const { return presses_; }
  void update_disk_sizes() override { ++size_updates_; }
  int size_updates() const { return size_updates_; }

 private:
  EventLoop& loop_;
  int presses_ = 0;
  int size_updates_ = 0;
  vmm::RunReport report_;
  bool ended_ = false;
};

class Run : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, nullptr, &mask_), 0);
    hangup_ = std::signal(SIGHUP, SIG_DFL);
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
    machine_.emplace(*loop_);
  }

  void TearDown() override {
    pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
    std::signal(SIGHUP, hangup_);
    std::signal(SIGPIPE, SIG_DFL);
    std::signal(SIGTTOU, SIG_DFL);
  }

  sigset_t mask_{};
  void (*hangup_)(int) = SIG_DFL;
  std::unique_ptr<EventLoop> loop_;
  std::optional<HangingMachine> machine_;
};

TEST_F(Run, SigpwrPressesThePowerButton) {
  const auto signals = Signals::take();
  ASSERT_TRUE(signals);
  raise(SIGPWR);
  const auto report = run_to_end(*machine_, *loop_, **signals, std::chrono::milliseconds(20));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ending, vmm::Ending::kTimeout);
  EXPECT_EQ(machine_->presses(), 1);
}

TEST_F(Run, Sigusr1UpdatesTheDisksSizes) {
  const auto signals = Signals::take();
  ASSERT_TRUE(signals);
  raise(SIGUSR1);
  const auto report = run_to_end(*machine_, *loop_, **signals, std::chrono::milliseconds(20));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ending, vmm::Ending::kTimeout);
  EXPECT_EQ(machine_->size_updates(), 1);
}

TEST_F(Run, EachEndingSignalEndsItByItsNumber) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    const auto signals = Signals::take();
    ASSERT_TRUE(signals);
    auto loop = EventLoop::create();
    HangingMachine machine(**loop);
    (*loop)->post([&] { ::kill(::getpid(), number); });
    const auto report = run_to_end(machine, **loop, **signals, std::nullopt);
    ASSERT_TRUE(report);
    EXPECT_EQ(report->ending, vmm::Ending::kSignal);
    EXPECT_EQ(report->signal, number);
  }
}

// timeout(1) sends two signals, and so do a closing terminal and its shell.
TEST_F(Run, TwoSignalsAtOnceCountAsOne) {
  for (int i = 0; i < 20; ++i) {
    auto signals = Signals::take();
    ASSERT_TRUE(signals);
    HangingMachine machine(*loop_);
    loop_->post([&] {
      ::kill(::getpid(), SIGTERM);
      ::usleep(1000);
      ::kill(::getpid(), SIGHUP);
    });
    const auto report = run_to_end(machine, *loop_, **signals, std::nullopt);
    ASSERT_TRUE(report);
    // On a busy machine both may be pending, and the kernel gives the lower number first.
    EXPECT_TRUE(report->signal == SIGTERM || report->signal == SIGHUP) << report->signal;
    signals->reset();
    // SIGHUP may have come too late for the thread that takes signals.
    sigset_t hangup;
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    constexpr timespec kNow{};
    (void)::sigtimedwait(&hangup, nullptr, &kNow);
  }
}

// A machine that cannot end, because its disks block for ever.
class StuckMachine final : public HangingMachine {
 public:
  using HangingMachine::HangingMachine;
  vmm::RunReport run() override {
    runs_ = true;
    return HangingMachine::run();
  }
  void end(vmm::Ending, int) override { ended_ = true; }
  bool runs() const { return runs_; }
  bool ended() const { return ended_; }

 private:
  std::atomic<bool> runs_ = false;
  std::atomic<bool> ended_ = false;
};

class RunDeathTest : public Run {
 protected:
  // Sends the signal to the process, not to a thread.
  static void send(int number) { ::kill(::getpid(), number); }
};

TEST_F(RunDeathTest, ASignalBeforeTheMachineEndsTheProcessWhateverItDoes) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
    EXPECT_EXIT(
        {
          const auto signals = Signals::take();
          send(number);
          for (;;) ::pause();
        },
        testing::ExitedWithCode(128 + number), "wick: ended by signal");
}

TEST_F(RunDeathTest, ASignalAfterTheMachineEndsTheProcess) {
  EXPECT_EXIT(
      {
        const auto signals = Signals::take();
        (void)run_to_end(*machine_, *loop_, **signals, std::chrono::milliseconds(1));
        send(SIGTERM);
        for (;;) ::pause();
      },
      testing::ExitedWithCode(143), "ended by signal 15 .SIGTERM.");
}

TEST_F(RunDeathTest, TheSecondSignalEndsAMachineThatCannotEnd) {
  EXPECT_EXIT(
      {
        const auto signals = Signals::take();
        StuckMachine machine(*loop_);
        std::jthread user([&] {
          while (!machine.runs()) ::usleep(1000);
          send(SIGTERM);
          while (!machine.ended()) ::usleep(1000);
          ::usleep(600'000);  // a second signal right away would count as the same
          send(SIGINT);
        });
        (void)run_to_end(machine, *loop_, **signals, std::nullopt);
        ::_exit(0);
      },
      testing::ExitedWithCode(130), "ended by signal 2 .SIGINT., the second");
}

TEST_F(RunDeathTest, ASignalRemovesSocketsAndRestoresTheTerminal) {
  const console::TestTerminal terminal;
  const std::string path = ::testing::TempDir() + "wick-run-" + std::to_string(::getpid());
  EXPECT_EXIT(
      {
        const auto signals = Signals::take();
        const auto socket = console::open_unix(*loop_, path, "");
        const auto raw = console::RawTerminal::enter(terminal.tty.get());
        if (!socket || !std::filesystem::is_socket(path) || !terminal.is_raw()) ::_exit(1);
        send(SIGTERM);
        for (;;) ::pause();
      },
      testing::ExitedWithCode(143), "");
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_FALSE(terminal.is_raw());
}

// The deadline counts wall-clock time, also while the process is stopped.
TEST_F(RunDeathTest, TheTimeLimitCountsWhileTheProcessIsStopped) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto signals = Signals::take();
    loop_->post([] { ::kill(::getpid(), SIGSTOP); });
    const auto report = run_to_end(*machine_, *loop_, **signals, std::chrono::milliseconds(300));
    ::_exit(report && report->ending == vmm::Ending::kTimeout ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  ::usleep(400'000);
  ::kill(child, SIGCONT);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(Run, TimeLimitEndsIt) {
  const auto signals = Signals::take();
  ASSERT_TRUE(signals);
  const auto report = run_to_end(*machine_, *loop_, **signals, std::chrono::milliseconds(1));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ending, vmm::Ending::kTimeout);
}

TEST_F(Run, HangupStaysIgnoredUnderNohup) {
  std::signal(SIGHUP, SIG_IGN);
  const auto signals = Signals::take();
  ASSERT_TRUE(signals);
  loop_->post([] {
    ::kill(::getpid(), SIGHUP);
    ::kill(::getpid(), SIGTERM);
  });
  const auto report = run_to_end(*machine_, *loop_, **signals, std::nullopt);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->signal, SIGTERM);
}

TEST_F(Run, BrokenPipeDoesNotKill) {
  ASSERT_TRUE(Signals::take());
  raise(SIGPIPE);
}

class ChooseAddresses : public ::testing::Test {
 protected:
  // The addresses of a machine with this name, these disks and two cards.
  static std::vector<net::MacAddress> addresses(const std::string& name,
                                                const std::vector<std::string>& disks = {},
                                                const std::string& machine_id = "host") {
    vmm::MachineConfig config;
    config.name = name;
    for (const std::string& path : disks) config.disks.emplace_back().path = path;
    config.nets.resize(2);
    choose_addresses(config, machine_id);
    std::vector<net::MacAddress> result;
    for (const vmm::NetConfig& net : config.nets) {
      EXPECT_TRUE(net.mac);
      result.push_back(net.mac.value_or(net::MacAddress{}));
    }
    return result;
  }
};

TEST_F(ChooseAddresses, AreTheSameForTheSameMachineAndDifferForEachCard) {
  const auto once = addresses("vm");
  EXPECT_EQ(addresses("vm"), once);
  EXPECT_EQ(addresses("vm", {"a.img"}), once) << "a name is enough";
  EXPECT_NE(once[0], once[1]);
  EXPECT_NE(addresses("vm2")[0], once[0]);
  EXPECT_EQ(once[0][0] & 3, 2) << "locally administered, of one station";
}

TEST_F(ChooseAddresses, GiveTheMachineAUuidOfItsOwn) {
  const auto uuid = [](const std::string& name, const std::string& host) {
    vmm::MachineConfig config;
    config.name = name;
    choose_addresses(config, host);
    return config.uuid;
  };
  const auto once = uuid("vm", "host");
  EXPECT_EQ(uuid("vm", "host"), once);
  EXPECT_NE(uuid("vm2", "host"), once);
  EXPECT_NE(uuid("vm", "other"), once);
  EXPECT_EQ(once[6] >> 4, 8) << "version";
  EXPECT_EQ(once[8] >> 6, 2) << "variant";
}

TEST_F(ChooseAddresses, DifferFromHostToHost) {
  EXPECT_NE(addresses("vm", {}, "host")[0], addresses("vm", {}, "other")[0]);
  EXPECT_NE(addresses("vm", {}, "host")[0], addresses("vm", {}, "")[0]);
}

TEST_F(ChooseAddresses, DependOnTheFirstDiskIfThereIsNoName) {
  const auto once = addresses("", {"/vm/a.img", "/vm/b.img"});
  EXPECT_EQ(addresses("", {"/vm/a.img"}), once);
  EXPECT_NE(addresses("", {"/vm/b.img", "/vm/a.img"})[0], once[0]);
  EXPECT_EQ(addresses("", {"a.img"}),
            addresses("", {(std::filesystem::current_path() / "a.img").string()}));
  EXPECT_EQ(addresses("", {"a.img"}), addresses("", {"./x/../a.img"})) << "the same file";
}

TEST_F(ChooseAddresses, ExistForMachinesWithoutNameAndDisk) {
  const auto once = addresses("");
  EXPECT_NE(once[0], once[1]);
  EXPECT_EQ(addresses(""), once) << "in one process";
}

TEST_F(ChooseAddresses, LeaveTheUsersOwnAlone) {
  constexpr net::MacAddress kMine = {0x52, 0x54, 0, 0, 0, 1};
  vmm::MachineConfig config;
  config.name = "vm";
  config.nets.resize(2);
  config.nets[0].mac = kMine;
  choose_addresses(config, "host");
  EXPECT_EQ(config.nets[0].mac, kMine);
  EXPECT_EQ(config.nets[1].mac, addresses("vm")[1]) << "the other card does not change it";
}

}  // namespace
}  // namespace wick::cli
