// The commands for machines by name, on entries of this process and a fake QMP server.
#include "cli/machines/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "console/log_file.h"
#include "control/registry.h"
#include "control/start_ticks.h"
#include "tests/fakes/fake_qmp_server.h"
#include "tests/fakes/temp_dir.h"
#include "tests/fakes/wait_for.h"

namespace wick::cli::machines {
namespace {

using Json = nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

// A machine whose process is this test.
struct TestMachine {
  std::optional<control::MachineEntry> entry;
  std::unique_ptr<fakes::FakeQmpServer> qmp;
  void end(int status, const std::string& reason) {
    (void)entry->finish(status, reason);
    entry.reset();
  }
};

class MachineCommands : public ::testing::Test {
 protected:
  MachineCommands() {
    ::setenv("WICK_RUNTIME_DIR", (temp_ / "wick").c_str(), 1);
    ::setenv("XDG_CONFIG_HOME", (temp_ / "config").c_str(), 1);
    ::setenv("TZ", "UTC", 1);
  }
  ~MachineCommands() override {
    ::unsetenv("WICK_RUNTIME_DIR");
    ::unsetenv("XDG_CONFIG_HOME");
    ::unsetenv("TZ");
  }

  control::MachineRecord record_of(const control::MachineEntry& entry) const {
    control::MachineRecord record;
    record.name = entry.name();
    record.pid = ::getpid();
    record.start_ticks = *control::start_ticks(::getpid());
    record.since = 1'700'000'000;
    record.background = true;
    record.kernel = "/boot/vmlinuz";
    record.uuid = "00112233-4455-8677-8899-aabbccddeeff";
    record.memory_bytes = 512 << 20;
    record.cpus = 2;
    record.console_log = entry.path("console.log");
    record.consoles = {{"ttyS0", entry.path("ttyS0.sock")}, {"ttyS1", ""}};
    record.services = {{"gdb", "tcp:127.0.0.1:41234"}};
    record.folder = temp_.path();
    return record;
  }

  TestMachine start(const std::string& name, const std::string& status = "running") {
    TestMachine machine;
    machine.entry.emplace(*control::Registry::open()->claim(name));
    EXPECT_TRUE(machine.entry->publish(record_of(*machine.entry)));
    machine.qmp = std::make_unique<fakes::FakeQmpServer>(machine.entry->path("qmp.sock"));
    machine.qmp->answers_["query-status"] = {{"status", status}, {"running", status == "running"}};
    return machine;
  }

  // Its exit status; what it printed is in printed_ and said_.
  template <typename Command>
  int status(const Command& command) {
    const auto result = run(command);
    EXPECT_TRUE(result) << result.error().message();
    return result.value_or(-1);
  }
  template <typename Command>
  std::string error(const Command& command) {
    const auto result = run(command);
    return result ? "no error" : result.error().message();
  }

  const fakes::TempDir temp_{std::filesystem::temp_directory_path()};
  std::string printed_;
  std::string said_;

 private:
  template <typename Command>
  Result<int> run(const Command& command) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    auto result = execute(command);
    std::fflush(stdout);
    printed_ = testing::internal::GetCapturedStdout();
    said_ = testing::internal::GetCapturedStderr();
    return result;
  }
};

// --- list and info ---

TEST_F(MachineCommands, ListShowsThoseThatRun) {
  const TestMachine web = start("web");
  const TestMachine db = start("db", "paused");
  TestMachine old = start("old");
  old.end(0, "the guest powered off");
  EXPECT_EQ(status(List{}), 0);
  EXPECT_EQ(printed_,
            "Name  State    Memory   CPUs  Since\n"
            "db    paused   512 MiB  2     2023-11-14 22:13\n"
            "web   running  512 MiB  2     2023-11-14 22:13\n");
}

TEST_F(MachineCommands, ListOfAllShowsEndingsCrashesAndDefinitions) {
  TestMachine off = start("off");
  off.end(3, "the guest's kernel panicked");
  TestMachine killed = start("killed");
  killed.entry.reset();
  const control::MachineEntry fresh = *control::Registry::open()->claim("fresh");
  std::filesystem::create_directories(temp_ / "config/wick");
  temp_.write("config/wick/web.toml", "");
  temp_.write("config/wick/off.toml", "");
  temp_.write("config/wick/.hidden.toml", "");
  EXPECT_EQ(status(List{.all = true}), 0);
  EXPECT_EQ(printed_,
            "Name    State     Memory   CPUs  Since or ending\n"
            "fresh   starting  -        -     -\n"
            "killed  crashed   512 MiB  2     "
            "ended without recording how: wick was killed, or the host failed\n"
            "off     ended     512 MiB  2     the guest's kernel panicked (status 3)\n"
            "web     defined   -        -     -\n");
}

TEST_F(MachineCommands, ListGoesOnWhereAMachineDoesNotAnswer) {
  TestMachine mute = start("mute");
  mute.qmp.reset();
  TestMachine rude = start("rude");
  rude.qmp->answers_["query-status"] = 7;
  TestMachine stranger = start("stranger");
  stranger.qmp->greeting_ = "220 smtp\r\n";
  EXPECT_EQ(status(List{}), 0);
  EXPECT_THAT(printed_, AllOf(HasSubstr("mute      no answer"), HasSubstr("rude      no answer"),
                              HasSubstr("stranger  no answer")));
}

TEST_F(MachineCommands, ListIsJsonForPrograms) {
  EXPECT_EQ(status(List{.json = true}), 0);
  EXPECT_EQ(Json::parse(printed_), Json::array());
  const TestMachine web = start("web");
  TestMachine off = start("off");
  off.end(3, "the guest's kernel panicked");
  EXPECT_EQ(status(List{.all = true, .json = true}), 0);
  const Json list = Json::parse(printed_);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["name"], "off");
  EXPECT_EQ(list[0]["state"], "ended");
  EXPECT_EQ(list[0]["ending"]["status"], 3);
  EXPECT_EQ(list[0]["ending"]["reason"], "the guest's kernel panicked");
  EXPECT_EQ(list[1]["state"], "running");
  EXPECT_EQ(list[1]["memory"], 512 << 20);
  EXPECT_EQ(list[1]["cpus"], 2);
  EXPECT_EQ(list[1]["pid"], ::getpid());
  EXPECT_FALSE(list[1].contains("ending"));
}

TEST_F(MachineCommands, ListWithoutMachinesIsEmpty) {
  EXPECT_EQ(status(List{}), 0);
  EXPECT_EQ(printed_, "Name  State  Memory  CPUs  Since\n");
}

TEST_F(MachineCommands, InfoShowsWhatAMachineIsAndHas) {
  const TestMachine web = start("web");
  web.qmp->answers_["query-block"] = {{{"device", "vda"}, {"inserted", {{"file", "d.qcow2"}}}},
                                      {{"device", "sr0"}}};
  web.qmp->answers_["query-rx-filter"] = {{{"name", "net0"}, {"main-mac", "52:54:00:12:34:56"}}};
  web.qmp->refusals_["query-balloon"] = "no balloon";
  EXPECT_EQ(status(Info{"web"}), 0);
  EXPECT_THAT(printed_,
              AllOf(StartsWith("Name:      web\nState:     running\nMemory:    512 MiB\n"),
                    HasSubstr("Disk:      vda d.qcow2\n"), HasSubstr("Disk:      sr0 (empty)\n"),
                    HasSubstr("Card:      net0 52:54:00:12:34:56\n"),
                    HasSubstr("ttyS0:     " + web.entry->path("ttyS0.sock") + "\n"),
                    HasSubstr("gdb:       tcp:127.0.0.1:41234\n"), Not(HasSubstr("Balloon")),
                    Not(HasSubstr("ttyS1"))));
  EXPECT_EQ(status(Info{"web", true}), 0);
  const Json info = Json::parse(printed_);
  EXPECT_EQ(info["disks"][0]["device"], "vda");
  EXPECT_EQ(info["folder"], temp_ / "wick/web");
  EXPECT_EQ(info["consoles"]["ttyS0"], web.entry->path("ttyS0.sock"));
  EXPECT_EQ(info["services"],
            Json::parse(R"([{"kind": "gdb", "address": "tcp:127.0.0.1:41234"}])"));
}

TEST_F(MachineCommands, InfoOfAnEndedMachineTellsTheEnding) {
  TestMachine web = start("web");
  web.end(4, "triple fault in the guest");
  EXPECT_EQ(status(Info{"web"}), 0);
  EXPECT_THAT(printed_, HasSubstr("Ending:    triple fault in the guest (status 4, "));
  EXPECT_THAT(printed_, Not(HasSubstr("PID")));
  EXPECT_THAT(printed_, Not(HasSubstr("gdb")));
}

TEST_F(MachineCommands, InfoEndsUnharmedByAStrangeMachine) {
  const TestMachine web = start("web");
  web.qmp->answers_["query-block"] = {
      7, Json::array(), {{"device", 7}, {"inserted", 7}}, {{"device", "\x1b[2J"}}};
  web.qmp->answers_["query-rx-filter"] = "none";
  web.qmp->answers_["query-balloon"] = {{"actual", "much"}};
  EXPECT_EQ(status(Info{"web"}), 0);
  EXPECT_THAT(printed_, AllOf(HasSubstr("\\x1b[2J"), Not(HasSubstr("\x1b"))));
}

TEST_F(MachineCommands, AnUnknownNameIsAnErrorThatTellsWhereToLook) {
  EXPECT_EQ(error(Info{"web"}), "web: no machine of this name; see wick list --all");
  EXPECT_EQ(error(Suspend{"web"}), "web: no machine of this name; see wick list --all");
  TestMachine web = start("web");
  web.end(0, "the guest powered off");
  EXPECT_EQ(
      error(Suspend{"web"}),
      "web: the machine does not run: the guest powered off; start it: wick start web and the "
      "options of wick run");
  std::filesystem::create_directories(temp_ / "config/wick");
  temp_.write("config/wick/web.toml", "");
  EXPECT_THAT(error(Suspend{"web"}), testing::EndsWith("; start it: wick start web"));
}

// --- Commands that QMP executes ---

TEST_F(MachineCommands, AskTheMachine) {
  const TestMachine web = start("web");
  EXPECT_EQ(status(Suspend{"web"}), 0);
  EXPECT_EQ(status(Resume{"web"}), 0);
  EXPECT_EQ(status(Reset{"web"}), 0);
  EXPECT_EQ(status(Shutdown{"web", {}}), 0);
  EXPECT_EQ(status(BlockResize{"web", "vda", 1 << 30}), 0);
  EXPECT_THAT(web.qmp->asked(), ElementsAre("stop", "cont", "system_reset", "system_powerdown",
                                            R"(block_resize {"device":"vda","size":1073741824})"));
  EXPECT_EQ(printed_ + said_, "");
}

TEST_F(MachineCommands, PassTheMachinesRefusalOn) {
  const TestMachine web = start("web");
  web.qmp->refusals_["block_resize"] = "Cannot find device 'vdz'";
  EXPECT_EQ(error(BlockResize{"web", "vdz", 1}), "Cannot find device 'vdz'");
}

TEST_F(MachineCommands, ShutdownWaitsForTheEndIfAsked) {
  TestMachine web = start("web");
  web.qmp->on_command_ = [&](const std::string& command) {
    if (command == "system_powerdown") web.end(0, "the guest powered off");
  };
  EXPECT_EQ(status(Shutdown{"web", seconds(20)}), 0);

  const TestMachine deaf = start("deaf");
  EXPECT_EQ(error(Shutdown{"deaf", milliseconds(20)}),
            "deaf: the guest has not powered off within 0.02 s; wait longer, or end it: "
            "wick destroy deaf");
}

TEST_F(MachineCommands, DestroyAsksWickToQuit) {
  TestMachine web = start("web");
  web.qmp->on_command_ = [&](const std::string& command) {
    if (command == "quit") web.end(0, "ended by the user");
  };
  EXPECT_EQ(status(Destroy{"web"}), 0);
  EXPECT_THAT(web.qmp->asked(), ElementsAre("quit"));
}

TEST_F(MachineCommands, DestroyKillsWhatDoesNotReact) {
  const pid_t child = ::fork();
  if (child == 0) {
    static std::optional<control::MachineEntry> entry = *control::Registry::open()->claim("web");
    (void)entry->publish(record_of(*entry));
    for (;;) ::pause();
  }
  const auto view = [] { return control::Registry::open()->find("web"); };
  ASSERT_TRUE(fakes::wait_for([&] { return view() && view()->record(); }));
  EXPECT_EQ(status(Destroy{"web"}), 0);
  int how = 0;
  ASSERT_EQ(::waitpid(child, &how, 0), child);
  EXPECT_TRUE(WIFSIGNALED(how));
  EXPECT_EQ(view()->state(), control::MachineView::State::kCrashed);
}

TEST_F(MachineCommands, RebootIsForMachinesThatWickCanStartAgain) {
  const TestMachine web = start("web");
  control::MachineRecord record = record_of(*web.entry);
  record.background = false;
  ASSERT_TRUE(web.entry->publish(record));
  EXPECT_THAT(error(Reboot{"web"}), HasSubstr("not a machine that wick start has started"));
  // An option that this wick does not have.
  record.background = true;
  record.arguments = {"--flux=1"};
  ASSERT_TRUE(web.entry->publish(record));
  EXPECT_THAT(error(Reboot{"web"}), HasSubstr("unknown option '--flux=1'"));
  EXPECT_THAT(web.qmp->asked(), IsEmpty()) << "the guest must not be shut down";
}

// --- wait, logs, monitor, console ---

TEST_F(MachineCommands, WaitReturnsTheStatusOfTheRun) {
  TestMachine web = start("web");
  std::jthread ending([&] {
    std::this_thread::sleep_for(milliseconds(20));
    web.end(3, "the guest's kernel panicked");
  });
  EXPECT_EQ(status(Wait{"web"}), 3);
  EXPECT_EQ(said_, "wick: web: the guest's kernel panicked\n");
  EXPECT_EQ(status(Wait{"web"}), 3) << "also afterwards";
}

TEST_F(MachineCommands, WaitForAForegroundRunGetsItsStatusAlthoughTheEntryGoes) {
  TestMachine web = start("web");
  std::jthread ending([&] {
    std::this_thread::sleep_for(milliseconds(50));
    web.entry->remove(130, "ended by signal 2 (SIGINT)");
    web.entry.reset();
  });
  EXPECT_EQ(status(Wait{"web"}), 130);
  EXPECT_THAT(error(Wait{"web"}), HasSubstr("no machine of this name"));
}

TEST_F(MachineCommands, WaitForACrashIsOneWithAWord) {
  TestMachine web = start("web");
  web.entry.reset();
  EXPECT_EQ(status(Wait{"web"}), 1);
  EXPECT_THAT(said_, HasSubstr("web: ended without recording how"));
}

TEST_F(MachineCommands, LogsArePrintedAlsoAfterTheEnd) {
  TestMachine web = start("web");
  fakes::write_file(web.entry->path("console.log"), "login: \x1b[1mroot\r\n");
  EXPECT_EQ(status(Logs{"web"}), 0);
  EXPECT_EQ(printed_, "login: \x1b[1mroot\r\n") << "not on a terminal: as it is";
  web.end(0, "the guest powered off");
  EXPECT_EQ(status(Logs{"web", true}), 0);
  EXPECT_EQ(printed_, "login: \x1b[1mroot\r\n");
}

TEST_F(MachineCommands, LogsFollowUntilTheEnd) {
  TestMachine web = start("web");
  const std::string log = web.entry->path("console.log");
  fakes::write_file(log, "one\n");
  std::jthread guest([&] {
    for (const char* const line : {"two\n", "three\n"}) {
      std::this_thread::sleep_for(milliseconds(20));
      std::ofstream(log, std::ios::app) << line;
    }
    web.end(0, "the guest powered off");
  });
  EXPECT_EQ(status(Logs{"web", true}), 0);
  EXPECT_EQ(printed_, "one\ntwo\nthree\n");
}

TEST_F(MachineCommands, LogsAreOfBothFilesOfAConsole) {
  const TestMachine web = start("web");
  fakes::write_file(web.entry->path("console.log.1"), "one\n");
  fakes::write_file(web.entry->path("console.log"), "two\n");
  EXPECT_EQ(status(Logs{"web"}), 0);
  EXPECT_EQ(printed_, "one\ntwo\n");
  std::filesystem::remove(web.entry->path("console.log"));
  EXPECT_EQ(status(Logs{"web"}), 0) << "wick was killed while it renamed the log";
  EXPECT_EQ(printed_, "one\n");
}

TEST_F(MachineCommands, LogsFollowIntoNewFiles) {
  TestMachine web = start("web");
  const std::string log = web.entry->path("console.log");
  fakes::write_file(log, "one\n");
  const auto is_open = [&] {
    std::error_code gone;
    for (const auto& file : std::filesystem::directory_iterator("/proc/self/fd"))
      if (std::filesystem::read_symlink(file, gone) == log) return true;
    return false;
  };
  std::jthread guest([&] {
    EXPECT_TRUE(fakes::wait_for(is_open));
    for (const char* const line : {"two\n", "three\n"}) {
      std::ofstream(log, std::ios::app) << "more\n";
      EXPECT_TRUE(console::begin_new_log(log));
      std::ofstream(log, std::ios::app) << line;
    }
    web.end(0, "the guest powered off");
  });
  EXPECT_EQ(status(Logs{"web", true}), 0);
  EXPECT_EQ(printed_, "one\nmore\ntwo\nmore\nthree\n");
}

TEST_F(MachineCommands, LogsOfTheUsersFileAreNotLookedForBesideIt) {
  const TestMachine web = start("web");
  control::MachineRecord record = record_of(*web.entry);
  record.console_log = temp_.write("my.log", "mine\n");
  temp_.write("my.log.1", "of something else\n");
  ASSERT_TRUE(web.entry->publish(record));
  EXPECT_EQ(status(Logs{"web"}), 0);
  EXPECT_EQ(printed_, "mine\n");
}

TEST_F(MachineCommands, LogsNeedALog) {
  const TestMachine web = start("web");
  EXPECT_THAT(error(Logs{"web"}), HasSubstr("console.log: cannot open"));
  control::MachineRecord record = record_of(*web.entry);
  record.console_log.clear();
  ASSERT_TRUE(web.entry->publish(record));
  EXPECT_THAT(error(Logs{"web"}), HasSubstr("this machine has no log of its console"));
}

TEST_F(MachineCommands, MonitorExecutesACommand) {
  const TestMachine web = start("web");
  web.qmp->answers_["human-monitor-command"] = "VM status: running";
  EXPECT_EQ(status(Monitor{"web", "info status"}), 0);
  EXPECT_EQ(printed_, "VM status: running\n");
  EXPECT_THAT(web.qmp->asked(),
              ElementsAre(R"(human-monitor-command {"command-line":"info status"})"));
  web.qmp->answers_["human-monitor-command"] = 7;
  EXPECT_EQ(error(Monitor{"web", "x"}), "web: the monitor gave no text");
}

TEST_F(MachineCommands, ConsoleNamesThePortsThatCanBeJoined) {
  const TestMachine web = start("web");
  EXPECT_EQ(error(Console{"web", "ttyS1"}),
            "web: ttyS1 has no socket to connect to; those that have one: ttyS0");
  EXPECT_THAT(error(Console{"web", "ttyS0"}), HasSubstr("ttyS0.sock: cannot connect"));
}

// --- define and undefine ---

TEST_F(MachineCommands, DefineChecksAFileAndKeepsIt) {
  const std::string file = temp_.write("web.toml", "kernel = 'k'\ndisk = ['a', 'b']\n");
  EXPECT_EQ(status(Define{file, "web"}), 0);
  EXPECT_EQ(printed_, "web defined\n");
  EXPECT_EQ(temp_.read("config/wick/web.toml"), temp_.read("web.toml"));
  temp_.write("web.toml", "kernel = 'new'\n");
  EXPECT_EQ(status(Define{file, "web"}), 0);
  EXPECT_EQ(temp_.read("config/wick/web.toml"), "kernel = 'new'\n");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(temp_ / "config/wick"),
                          std::filesystem::directory_iterator()),
            1);

  const std::string bad = temp_.write("bad.toml", "kernel = 'k'\nmemroy = '1G'\n");
  EXPECT_THAT(error(Define{bad, "bad"}), HasSubstr("line 2: unknown key 'memroy'"));
  EXPECT_FALSE(std::filesystem::exists(temp_ / "config/wick/bad.toml"));
  EXPECT_THAT(error(Define{temp_ / "none.toml", "none"}), HasSubstr("No such file"));
  EXPECT_THAT(error(Define{temp_.write("big.toml", std::string(100'000, '#')), "big"}),
              HasSubstr("too large"));
}

TEST_F(MachineCommands, UndefineForgetsADefinitionAndAnEndedMachine) {
  std::filesystem::create_directories(temp_ / "config/wick");
  temp_.write("config/wick/web.toml", "");
  TestMachine web = start("web");
  EXPECT_EQ(status(Undefine{"web"}), 0) << "a running machine keeps running";
  EXPECT_EQ(printed_, "web undefined\n");
  EXPECT_THAT(error(Undefine{"web"}), HasSubstr("is running, and not defined"));
  web.end(0, "the guest powered off");
  EXPECT_EQ(status(Undefine{"web"}), 0);
  EXPECT_EQ(printed_, "web forgotten\n");
  EXPECT_FALSE(std::filesystem::exists(temp_ / "wick/web"));
  EXPECT_EQ(error(Undefine{"web"}), "web: no machine of this name; see wick list --all");
}

}  // namespace
}  // namespace wick::cli::machines
