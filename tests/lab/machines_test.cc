// Machines by name: what the commands show at each moment of their lives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/fakes/wait_for.h"
#include "tests/lab/tiny.h"

namespace wick::lab {
namespace {

using guests::Code;
using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;
using Json = nlohmann::json;
using States = std::map<std::string, std::string>;

// Whether a process has a file open whose path ends with `end`.
bool has_open(pid_t process, const std::string& end) {
  std::error_code gone;
  const std::string folder = "/proc/" + std::to_string(process) + "/fd";
  for (std::filesystem::directory_iterator fd(folder, gone), last; !gone && fd != last;
       fd.increment(gone))
    if (std::filesystem::read_symlink(*fd, gone).string().ends_with(end)) return true;
  return false;
}

// The machines of one test. Those that still run at its end are destroyed.
class Machines : public testing::Test {
 protected:
  ~Machines() override {
    for (const auto& [name, state] : states({})) (void)run({"destroy", name});
  }

  // Its processes get no WICK_ variables of the test, so the folder is set by env(1).
  std::vector<std::string> command(const std::vector<std::string>& arguments) const {
    std::vector<std::string> argv = {"env", "WICK_RUNTIME_DIR=" + (folder_ / "run"),
                                     "XDG_CONFIG_HOME=" + (folder_ / "config")};
    const auto words = wick(arguments);
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
  }
  Finished run(const std::vector<std::string>& arguments) const {
    return finish(command(arguments));
  }
  void succeed(const std::vector<std::string>& arguments) const {
    const Finished finished = run(arguments);
    EXPECT_EQ(finished.status, 0) << arguments[0] << ": " << finished.err;
  }

  Json list(const std::vector<std::string>& options) const {
    std::vector<std::string> arguments = {"list", "--output", "json"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Finished finished = run(arguments);
    EXPECT_EQ(finished.status, 0) << finished.err;
    return Json::parse(finished.out);
  }
  // By name, as `wick list` shows them.
  States states(const std::vector<std::string>& options) const {
    States states;
    for (const Json& machine : list(options)) states[machine["name"]] = machine["state"];
    return states;
  }

  // Alpine, whose acpid obeys the power button.
  void start_alpine(const std::string& name) const {
    const Finished started = run({"start", name, "-k", image("bzImage"), "-d", alpine_disk(folder_),
                                  "-m", "128M", "-a", "quiet"});
    EXPECT_EQ(started.status, 0) << started.err;
    EXPECT_EQ(started.out, name + " started\n");
  }
  Dialogue console_of(const std::string& name) const {
    return Dialogue::connect(folder_ / ("run/" + name + "/ttyS0.sock"));
  }
  void start_tiny(const std::string& name, const Code& code) const {
    write_file(folder_ / "tiny", guests::bzimage(code));
    const Finished started = run({"start", name, "-k", folder_ / "tiny", "-m", "32M"});
    EXPECT_EQ(started.status, 0) << started.err;
  }
  pid_t pid_of(const std::string& name) const {
    return Json::parse(read_file(folder_ / ("run/" + name + "/machine.json")))["pid"];
  }

  const TempDir folder_;
};

TEST_F(Machines, AreListedAsTheyAreFromStartToEnd) {
  EXPECT_EQ(states({"--all"}), States{});
  start_alpine("web");
  start_tiny("db", Code().print("hello\r\n").spin());
  start_tiny("lost", Code().print("hello\r\n").spin());
  EXPECT_EQ(states({}), (States{{"web", "running"}, {"db", "running"}, {"lost", "running"}}));

  succeed({"suspend", "web"});
  EXPECT_EQ(states({})["web"], "paused");
  EXPECT_EQ(states({})["db"], "running");
  succeed({"resume", "web"});
  EXPECT_EQ(states({})["web"], "running");
  Dialogue console = console_of("web");
  log_in(console);
  EXPECT_EQ(run_in_guest(console, "echo still here"), "still here");

  // One is destroyed, one killed.
  succeed({"destroy", "db"});
  EXPECT_EQ(states({}), (States{{"web", "running"}, {"lost", "running"}}));
  EXPECT_EQ(run({"wait", "db"}).status, 0);
  ::kill(pid_of("lost"), SIGKILL);
  const Finished lost = run({"wait", "lost"});
  EXPECT_EQ(lost.status, 1);
  EXPECT_THAT(lost.err, HasSubstr("lost: ended without recording how"));
  EXPECT_EQ(states({}), (States{{"web", "running"}}));
  EXPECT_EQ(states({"--all"}), (States{{"web", "running"}, {"db", "ended"}, {"lost", "crashed"}}));

  // The guest of the third powers off when its button is pressed.
  Process waiting(command({"wait", "web"}));
  console.hang_up();
  succeed({"shutdown", "web", "--timeout", "200"});
  EXPECT_EQ(waiting.wait(), 0);
  EXPECT_EQ(waiting.errors(), "wick: web: the guest powered off\n");
  EXPECT_EQ(states({}), States{});
  EXPECT_EQ(states({"--all"}), (States{{"web", "ended"}, {"db", "ended"}, {"lost", "crashed"}}));

  // Names can be used again, and forgotten.
  start_tiny("lost", Code().print("again\r\n").spin());
  EXPECT_EQ(states({}), (States{{"lost", "running"}}));
  succeed({"undefine", "db"});
  EXPECT_EQ(states({"--all"}), (States{{"web", "ended"}, {"lost", "running"}}));
}

TEST_F(Machines, HaveTheStatusOfTheirRun) {
  start_tiny("fault", Code().print("hello\r\n").triple_fault());
  EXPECT_EQ(run({"wait", "fault"}).status, 4);
  const Json ending = Json::parse(read_file(folder_ / "run/fault/ending.json"));
  EXPECT_EQ(ending["status"], 4);
  EXPECT_THAT(ending["reason"].get<std::string>(), StartsWith("triple fault in the guest"));
  // Its registers are in its log, and its output is kept.
  EXPECT_THAT(read_file(folder_ / "run/fault/log"), HasSubstr("rip="));
  EXPECT_EQ(run({"logs", "fault"}).out, "hello\r\n");
}

TEST_F(Machines, OfTheSameNameAreRefused) {
  start_tiny("web", Code().print("hello\r\n").spin());
  const Finished second = run({"start", "web", "-k", folder_ / "tiny"});
  EXPECT_EQ(second.status, 1);
  EXPECT_EQ(second.err,
            "wick: web: a machine of this name is running; choose another name, or end it: "
            "wick shutdown web\n");
  EXPECT_EQ(states({}), (States{{"web", "running"}}));
}

TEST_F(Machines, ThatCannotBeBuiltLeaveTheErrorAndNothingElse) {
  const Finished started = run({"start", "web", "-k", "/nowhere/bzImage"});
  EXPECT_EQ(started.status, 1);
  EXPECT_EQ(started.out, "");
  EXPECT_THAT(started.err, AllOf(StartsWith("wick: "), HasSubstr("/nowhere/bzImage")));
  EXPECT_EQ(lines(started.err).size(), 1u) << started.err;
  EXPECT_EQ(states({"--all"}), States{});
}

TEST_F(Machines, AreResetAndRebootedByName) {
  start_alpine("web");
  Dialogue console = console_of("web");
  console.expect("login: ");
  succeed({"reset", "web"});
  log_in(console);  // again, without an end of the run
  console.hang_up();
  const pid_t first = pid_of("web");
  succeed({"reboot", "web", "--timeout", "200"});
  EXPECT_NE(pid_of("web"), first);
  EXPECT_EQ(states({}), (States{{"web", "running"}}));
  Dialogue again = console_of("web");
  log_in(again);
}

TEST_F(Machines, InTheForegroundAreFoundByNameAndLeaveNothing) {
  write_file(folder_ / "tiny", guests::bzimage(Code().print("hello\r\n").spin()));
  Process vm(command({"run", "--name", "front", "-k", folder_ / "tiny", "-m", "32M"}));
  vm.console().expect("hello");
  EXPECT_EQ(states({}), (States{{"front", "running"}}));
  Process waiting(command({"wait", "front"}));
  ASSERT_TRUE(fakes::wait_for([&] { return has_open(waiting.pid(), "/front/lock"); },
                              std::chrono::seconds(60)));
  succeed({"destroy", "front"});
  EXPECT_EQ(vm.wait(), 0);
  EXPECT_EQ(waiting.wait(), 0);
  EXPECT_EQ(states({"--all"}), States{});
  EXPECT_FALSE(exists(folder_ / "run/front"));
}

TEST_F(Machines, AreDefinedOnceAndStartedByName) {
  write_file(folder_ / "tiny", guests::bzimage(Code().print("hello\r\n").spin()));
  write_file(folder_ / "web.toml", "kernel = '" + (folder_ / "tiny") + "'\nmemory = '32M'\n");
  succeed({"define", folder_ / "web.toml"});
  EXPECT_EQ(states({"--all"}), (States{{"web", "defined"}}));
  succeed({"start", "web"});
  EXPECT_EQ(list({})[0]["memory"], 32 << 20);
  EXPECT_THAT(run({"info", "web"}).out, MatchesRegex("Name: +web\nState: +running\n(.|\n)*"));
  succeed({"destroy", "web"});
  EXPECT_EQ(states({"--all"}), (States{{"web", "ended"}}));
  succeed({"undefine", "web"});
  EXPECT_EQ(states({"--all"}), States{});
}

}  // namespace
}  // namespace wick::lab
