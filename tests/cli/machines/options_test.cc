// Command lines of machines by name, and the options of runs in the background.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/cli/command_line.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

template <typename T>
T machine_command(const Arguments& arguments) {
  const auto command = parse(arguments);
  if (!command) {
    ADD_FAILURE() << command.error().error.message();
    return {};
  }
  return std::get<T>(std::get<MachineCommand>(*command));
}

std::string host_error(const Arguments& arguments, const Variables& variables = {}) {
  const auto command = parse(arguments, variables);
  if (command) return "no error";
  EXPECT_EQ(command.error().kind, CommandError::Kind::kHost);
  return command.error().error.message();
}

TEST(MachineOptions, AreThoseOfVirsh) {
  EXPECT_FALSE(machine_command<machines::List>({"list"}).all);
  EXPECT_TRUE(machine_command<machines::List>({"list", "--all"}).all);
  EXPECT_TRUE(machine_command<machines::List>({"list", "--output", "json"}).json);
  EXPECT_EQ(machine_command<machines::Info>({"info", "web"}).name, "web");
  EXPECT_EQ(machine_command<machines::Console>({"console", "web"}).port, "ttyS0");
  EXPECT_EQ(machine_command<machines::Console>({"console", "web", "hvc0"}).port, "hvc0");
  EXPECT_TRUE(machine_command<machines::Logs>({"logs", "-f", "web"}).follow);
  EXPECT_EQ(machine_command<machines::Wait>({"wait", "web"}).name, "web");
  EXPECT_FALSE(machine_command<machines::Shutdown>({"shutdown", "web"}).timeout);
  EXPECT_EQ(machine_command<machines::Shutdown>({"shutdown", "web", "--timeout", "1.5"}).timeout,
            std::chrono::milliseconds(1500));
  EXPECT_EQ(machine_command<machines::Reboot>({"reboot", "web"}).timeout, std::chrono::minutes(2));
  EXPECT_EQ(machine_command<machines::Reset>({"reset", "web"}).name, "web");
  EXPECT_EQ(machine_command<machines::Destroy>({"destroy", "web"}).name, "web");
  EXPECT_EQ(machine_command<machines::Suspend>({"suspend", "web"}).name, "web");
  EXPECT_EQ(machine_command<machines::Resume>({"resume", "web"}).name, "web");
  const auto resize = machine_command<machines::BlockResize>({"blockresize", "web", "vda", "2G"});
  EXPECT_EQ(resize.disk, "vda");
  EXPECT_EQ(resize.size_bytes, 2ull << 30);
  EXPECT_EQ(machine_command<machines::Monitor>({"monitor", "web"}).command, "");
  EXPECT_EQ(machine_command<machines::Monitor>({"monitor", "web", "info", "cpus"}).command,
            "info cpus");
  EXPECT_EQ(machine_command<machines::Define>({"define", "a/web.toml"}).name, "web");
  EXPECT_EQ(machine_command<machines::Define>({"define", "x.toml", "--name", "db"}).name, "db");
  EXPECT_EQ(machine_command<machines::Undefine>({"undefine", "web"}).name, "web");
}

TEST(MachineOptions, OptionsBehindTwoDashesArePassedOn) {
  const auto all =
      machine_command<machines::Gdb>({"gdb", "web", "vmlinux", "--", "-nx", "--batch"});
  EXPECT_EQ(all.vmlinux, "vmlinux");
  EXPECT_THAT(all.arguments, ElementsAre("-nx", "--batch"));
  const auto no_symbols = machine_command<machines::Gdb>({"gdb", "web", "--", "-nx"});
  EXPECT_EQ(no_symbols.vmlinux, "");
  EXPECT_THAT(no_symbols.arguments, ElementsAre("-nx"));
  EXPECT_EQ(machine_command<machines::Monitor>({"monitor", "web", "--", "info", "registers", "-a"})
                .command,
            "info registers -a");
}

TEST(MachineOptions, NamesThatLeadElsewhereAreUsageErrors) {
  for (const char* const verb : {"info", "console", "logs", "wait", "shutdown", "reboot", "reset",
                                 "destroy", "suspend", "resume", "monitor", "undefine", "start"}) {
    EXPECT_THAT(usage_error({verb, "../web"}), StartsWith("NAME '../web': the name of a machine"))
        << verb;
    EXPECT_THAT(usage_error({verb}), HasSubstr("NAME is required")) << verb;
  }
  EXPECT_THAT(usage_error({"define", ".toml"}), StartsWith("NAME '.toml'"));
  EXPECT_THAT(usage_error({"define", "web.toml", "--name", "a b"}), StartsWith("NAME 'a b'"));
}

TEST(MachineOptions, BadValuesAreUsageErrors) {
  EXPECT_THAT(usage_error({"shutdown", "web", "--timeout", "soon"}),
              StartsWith("--timeout 'soon': not a number of seconds"));
  EXPECT_THAT(usage_error({"blockresize", "web", "vda", "big"}), StartsWith("SIZE 'big': not a"));
  EXPECT_THAT(usage_error({"list", "--output", "xml"}), HasSubstr("must be human or json"));
  EXPECT_EQ(usage_error({"suspend", "web", "db"}), "'db' is one argument too many");
  EXPECT_EQ(usage_error({"list", "--al"}), "unknown option '--al'; did you mean --all?");
}

TEST(MachineOptions, StartTakesTheOptionsOfARun) {
  const RunOptions options =
      run_options({"start", "web", "-k", "bzImage", "-m", "1G", "-d", "a", "-d", "b", "-v"});
  EXPECT_TRUE(options.detach);
  EXPECT_EQ(options.machine.name, "web");
  EXPECT_EQ(options.machine.memory_bytes, 1u << 30);
  EXPECT_EQ(options.machine.disks.size(), 2u);
  EXPECT_THAT(options.arguments, ElementsAre("--kernel=bzImage", "--memory=1G", "--disk=a",
                                             "--disk=b", "--log-level=info"));
  EXPECT_THAT(usage_error({"start", "web", "--name", "db"}), HasSubstr("unknown option '--name'"));
}

TEST(MachineOptions, StartRepeatedWithItsArgumentsIsTheSame) {
  const fakes::TempDir folder;
  const std::string file = folder.write("vm.toml", "append = 'a \"b\"'\nstats = true\n");
  const RunOptions once =
      run_options({"start", "web", "--config", file, "-k", "k", "--gdb", "unix:g", "--gdb-wait"},
                  {{"WICK_DISK", "x,serial=a,,b;y"}, {"WICK_NAME", "other"}});
  Arguments again = {"start", "web"};
  again.insert(again.end(), once.arguments.begin(), once.arguments.end());
  const RunOptions twice = run_options(again);
  EXPECT_EQ(twice.arguments, once.arguments);
  EXPECT_EQ(twice.machine.append, "a \"b\"");
  EXPECT_TRUE(twice.machine.stats);
  EXPECT_TRUE(twice.gdb_wait);
  EXPECT_EQ(twice.machine.disks.at(0).serial, "a,b");
  EXPECT_EQ(twice.machine.disks.at(1).path, "y");
  EXPECT_EQ(twice.machine.name, "web");
}

TEST(MachineOptions, StartFindsTheDefinitionOfTheName) {
  const fakes::TempDir folder;
  std::filesystem::create_directories(folder / "config/wick");
  std::filesystem::create_directories(folder / "home/.config/wick");
  folder.write("config/wick/web.toml", "kernel = 'defined'\nmemory = '1G'\nname = 'other'\n");
  folder.write("home/.config/wick/web.toml", "kernel = 'at home'\n");
  const std::string other = folder.write("other.toml", "kernel = 'other'\n");
  const Variables variables = {
      {"XDG_CONFIG_HOME", folder / "config"}, {"HOME", folder / "home"}, {"WICK_CONFIG", other}};
  const RunOptions options = run_options({"start", "web", "-m", "2G"}, variables);
  EXPECT_EQ(options.machine.kernel_path, "defined");
  EXPECT_EQ(options.machine.memory_bytes, 2ull << 30);
  EXPECT_EQ(options.machine.name, "web");
  EXPECT_EQ(run_options({"start", "web"}, {{"HOME", folder / "home"}}).machine.kernel_path,
            "at home");
  EXPECT_EQ(run_options({"start", "web", "--config", other}, variables).machine.kernel_path,
            "other");
  EXPECT_EQ(run_options({"start", "db"}, variables).machine.kernel_path, "other");
  folder.write("config/wick/web.toml", "memroy = '1G'\n");
  EXPECT_THAT(usage_error({"start", "web"}, variables), HasSubstr("unknown key 'memroy'"));
}

TEST(MachineOptions, StartOfNothingIsAnErrorAndNotAnEmptyMachine) {
  EXPECT_EQ(host_error({"start", "web"}, {{"HOME", "/nonexistent"}}),
            "web: this machine is not defined; give the options of wick run, or define it: "
            "wick define web.toml");
}

TEST(MachineOptions, DetachIsASwitchOfRun) {
  EXPECT_FALSE(run_options(run_with({})).detach);
  EXPECT_THAT(run_options(run_with({})).arguments, testing::IsEmpty());
  EXPECT_TRUE(run_options(run_with({"--detach"})).detach);
  EXPECT_TRUE(run_options(run_with({}), {{"WICK_DETACH", "on"}}).detach);
  EXPECT_FALSE(run_options(run_with({}), {{"WICK_DETACH", "0"}}).detach);
  EXPECT_EQ(usage_error(run_with({}), {{"WICK_DETACH", "maybe"}}),
            "WICK_DETACH 'maybe': must be on or off");
  EXPECT_THAT(usage_error(run_with({"--detach", "--name", ".web"})),
              HasSubstr("must not begin with '.'"));
  EXPECT_EQ(run_options(run_with({"--name", ".web"})).machine.name, ".web");
}

TEST(MachineOptions, ServicesListenWhereTheyAreTold) {
  using Kind = control::ServiceConfig::Kind;
  const RunOptions options =
      run_options(run_with({"--qmp", "unix:q", "--qmp", "tcp::4444", "--monitor", "tcp:[::1]:55",
                            "--gdb", "tcp:127.0.0.1:1234"}));
  ASSERT_EQ(options.services.size(), 3u);
  EXPECT_EQ(options.services[0].kind, Kind::kQmp);
  EXPECT_EQ(options.services[0].address->path, "q");
  EXPECT_EQ(options.services[1].address->text(), "tcp:127.0.0.1:4444");
  EXPECT_EQ(options.services[2].kind, Kind::kMonitor);
  EXPECT_EQ(options.services[2].address->text(), "tcp:[::1]:55");
  EXPECT_EQ(options.gdb->port, 1234);
  for (const char* const bad : {"", "unix:", "tcp:", "tcp:x", "tcp::65536", "tcp::-1", "udp::1"}) {
    EXPECT_THAT(usage_error(run_with({"--qmp", bad})),
                HasSubstr("write stdio, unix:PATH or tcp:HOST:PORT"))
        << bad;
    EXPECT_THAT(usage_error(run_with({"--gdb", bad})), HasSubstr("write unix:PATH or tcp:")) << bad;
  }
  EXPECT_THAT(usage_error(run_with({"--gdb", "stdio"})), HasSubstr("write unix:PATH"));
  EXPECT_THAT(usage_error(run_with({"--gdb-wait"})), HasSubstr("no server for gdb"));
}

TEST(MachineOptions, OnlyOneHasTheTerminal) {
  EXPECT_EQ(run_options(run_with({"--qmp", "stdio"})).machine.serials.at(0).kind,
            vmm::SerialConfig::Kind::kNull);
  for (const Arguments& both : {Arguments{"--qmp", "stdio", "-s", "stdio"},
                                Arguments{"--monitor", "stdio", "--qmp", "stdio"},
                                Arguments{"--monitor", "stdio", "--console", "stdio"}})
    EXPECT_THAT(usage_error(run_with(both)), HasSubstr("stdio: more than one of")) << both[0];
  EXPECT_THAT(usage_error({"start", "web", "-k", "k", "--qmp", "stdio"}),
              HasSubstr("has no terminal"));
}

TEST(MachineOptions, APanicMayLeaveACore) {
  EXPECT_EQ(run_options(run_with({})).panic_core, "");
  EXPECT_EQ(run_options(run_with({"--on-panic", "exit"})).panic_core, "");
  EXPECT_EQ(run_options(run_with({"--on-panic", "core:c"})).panic_core, "c");
  EXPECT_THAT(usage_error(run_with({"--on-panic", "core:"})), HasSubstr("exit or core:FILE"));
}

}  // namespace
}  // namespace wick::cli
