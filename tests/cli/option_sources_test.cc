// Tests where options come from: command line, environment, config file, defaults.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/command_line.h"
#include "tests/fakes/temp_dir.h"

namespace wick::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// A temporary config file.
class ConfigFile {
 public:
  explicit ConfigFile(std::string_view text) : path_(folder_.write("vm.toml", text)) {}
  const std::string& path() const { return path_; }

 private:
  fakes::TempDir folder_;
  std::string path_;
};

// Each option from each source, with different values, so that the result shows which source
// was used. For an option with only one valid value the error shows it.
struct OrderCase {
  const char* name;
  const char* command_line;
  const char* environment;
  const char* file;  // as TOML
  const char* by_command_line;
  const char* by_environment;
  const char* by_file;
  std::string (*seen)(const RunOptions&);
};

void PrintTo(const OrderCase& order, std::ostream* out) { *out << order.name; }

class Order : public ::testing::TestWithParam<OrderCase> {};

TEST_P(Order, IsCommandLineEnvironmentFileDefault) {
  const OrderCase& order = GetParam();
  std::string variable = std::string("WICK_") + order.name;
  for (char& c : variable) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
  // The kernel is always given, so that the other options are checked.
  const bool is_kernel = order.name == std::string("kernel");
  const ConfigFile with((is_kernel ? "" : "kernel = 'default'\n") + std::string(order.name) +
                        " = " + order.file);
  const ConfigFile without("kernel = 'default'");
  const auto outcome = [&](bool command_line, bool environment, bool file) {
    Arguments arguments = {"run", "--config", file ? with.path() : without.path()};
    if (command_line)
      arguments.push_back(std::string("--") + order.name + "=" + order.command_line);
    Variables variables;
    if (environment) variables[variable] = order.environment;
    const auto command = parse(arguments, variables);
    return command ? order.seen(std::get<RunOptions>(*command)) : command.error().error.message();
  };
  for (const bool environment : {false, true}) {
    for (const bool file : {false, true})
      EXPECT_THAT(outcome(true, environment, file), HasSubstr(order.by_command_line));
  }
  for (const bool file : {false, true})
    EXPECT_THAT(outcome(false, true, file), HasSubstr(order.by_environment));
  EXPECT_THAT(outcome(false, false, true), HasSubstr(order.by_file));

  const std::string by_default = outcome(false, false, false);
  RunOptions defaults;
  defaults.machine.kernel_path = "default";
  defaults.machine.serials.emplace_back().kind = vmm::SerialConfig::Kind::kStdio;
  EXPECT_EQ(by_default, order.seen(defaults));
}

std::string nothing(const RunOptions&) { return "fine"; }

INSTANTIATE_TEST_SUITE_P(
    EachOption, Order,
    ::testing::Values(
        OrderCase{"kernel", "c", "e", "'f'", "c", "e", "f",
                  [](const RunOptions& o) { return o.machine.kernel_path; }},
        OrderCase{"initrd", "c", "e", "'f'", "c", "e", "f",
                  [](const RunOptions& o) { return o.machine.initrd_path; }},
        OrderCase{"append", "c", "e", "'f'", "c", "e", "f",
                  [](const RunOptions& o) { return o.machine.append; }},
        OrderCase{"cmdline", "c", "e", "'f'", "c", "e", "f",
                  [](const RunOptions& o) { return o.machine.cmdline.value_or("none"); }},
        OrderCase{"memory", "1K4", "8K", "12", "--memory '1K4'", "8192", "12582912",
                  [](const RunOptions& o) { return std::to_string(o.machine.memory_bytes); }},
        OrderCase{"cpus", "2", "3", "4", "2", "3", "4",
                  [](const RunOptions& o) { return std::to_string(o.machine.cpus); }},
        OrderCase{"disk", "c", "e1;e2", "['f1', 'f2', 'f3']", "c1", "e12", "f13",
                  [](const RunOptions& o) {
                    const auto& disks = o.machine.disks;
                    return disks.empty() ? "none" : disks[0].path + std::to_string(disks.size());
                  }},
        OrderCase{"serial", "file:c", "file:e1;null", "['file:f', 'null', 'pty']", "c1", "e12",
                  "f3",
                  [](const RunOptions& o) {
                    return o.machine.serials[0].path + std::to_string(o.machine.serials.size());
                  }},
        OrderCase{"transport", "c", "e", "'f'", "--transport 'c'", "WICK_TRANSPORT 'e'",
                  "transport 'f'", nothing},
        OrderCase{"acpi", "off", "wrong", "'off'", "off", "WICK_ACPI 'wrong'", "off",
                  [](const RunOptions& o) -> std::string { return o.machine.acpi ? "on" : "off"; }},
        OrderCase{"hotplug", "all", "off", "'wrong'", "all", "off", "hotplug 'wrong'",
                  [](const RunOptions& o) -> std::string {
                    using Hotplug = vmm::MachineConfig::Hotplug;
                    return o.machine.hotplug == Hotplug::kAll   ? "all"
                           : o.machine.hotplug == Hotplug::kOff ? "off"
                                                                : "spare";
                  }},
        OrderCase{"on-reboot", "c", "e", "'f'", "--on-reboot 'c'", "WICK_ON_REBOOT 'e'",
                  "on-reboot 'f'", nothing},
        OrderCase{"name", "c", "e", "'f'", "c", "e", "f",
                  [](const RunOptions& o) { return o.machine.name; }},
        OrderCase{"detach", "true", "off", "true", "on", "off", "on",
                  [](const RunOptions& o) -> std::string { return o.detach ? "on" : "off"; }},
        OrderCase{
            "qmp", "unix:c", "unix:e1;unix:e2", "['unix:f', 'tcp::1', 'tcp::2']", "c1", "e12", "f3",
            [](const RunOptions& o) {
              return o.services.empty()
                         ? "none"
                         : o.services[0].address->path + std::to_string(o.services.size());
            }},
        OrderCase{"monitor", "unix:c", "unix:e", "['unix:f']", "c", "e", "f",
                  [](const RunOptions& o) {
                    return o.services.empty() ? "none" : o.services[0].address->path;
                  }},
        OrderCase{"gdb", "unix:c", "unix:e", "'unix:f'", "c", "e", "f",
                  [](const RunOptions& o) { return o.gdb ? o.gdb->path : "none"; }},
        OrderCase{"gdb-wait", "true", "maybe", "'perhaps'", "--gdb-wait: there is no server",
                  "WICK_GDB_WAIT 'maybe'", "gdb-wait 'perhaps'", nothing},
        OrderCase{"on-panic", "core:c", "core:e", "'core:f'", "c", "e", "f",
                  [](const RunOptions& o) { return o.panic_core; }},
        OrderCase{"timeout", "1", "2", "3.5", "1000000", "2000000", "3500000",
                  [](const RunOptions& o) {
                    return o.timeout ? std::to_string(o.timeout->count()) : "none";
                  }},
        OrderCase{
            "stats", "false", "1", "true", "off", "on", "on",
            [](const RunOptions& o) -> std::string { return o.machine.stats ? "on" : "off"; }},
        OrderCase{"log-level", "error", "info", "'off'", "error", "info", "off",
                  [](const RunOptions& o) { return o.log_level; }},
        OrderCase{"net", "c", "e", "'f'", "--net 'c'", "WICK_NET 'e'", "net 'f'", nothing},
        OrderCase{"cdrom", "c", "e", "'f'", "c", "e", "f",
                  [](const RunOptions&
                         o) { return o.machine.disks.empty() ? "none" : o.machine.disks[0].path; }},
        OrderCase{"console", "file:c", "file:e", "'file:f'", "c", "e", "f",
                  [](const RunOptions& o) {
                    return o.machine.consoles.empty() ? "none" : o.machine.consoles[0].path;
                  }},
        OrderCase{"rng", "c", "off", "'f'", "c", "none", "f",
                  [](const RunOptions& o) { return o.machine.rng.value_or("none"); }}),
    [](const auto& tested) {
      std::string name = tested.param.name;
      name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
      return name;
    });

TEST(Options, ConfigFileMayBeNamedByTheEnvironment) {
  const ConfigFile one("kernel = 'one'");
  const ConfigFile two("kernel = 'two'");
  const Variables variables = {{"WICK_CONFIG", one.path()}};
  EXPECT_EQ(run_options({"run"}, variables).machine.kernel_path, "one");
  EXPECT_EQ(run_options({"run", "--config", two.path()}, variables).machine.kernel_path, "two");
}

TEST(Options, EmptyVariableCountsAsUnset) {
  EXPECT_EQ(run_options(run_with({}), {{"WICK_MEMORY", ""}, {"WICK_DISK", ""}, {"WICK_CONFIG", ""}})
                .machine.memory_bytes,
            512u << 20);
  EXPECT_EQ(run_options(run_with({}), {{"WICK_DISK", ";a;;b;"}}).machine.disks.size(), 2u);
}

TEST(Options, OtherVariablesAreIgnored) {
  EXPECT_EQ(usage_error(run_with({}), {{"WICK_LAB", "0"}, {"WICK_CACHE", "/c"}}), "no error");
}

TEST(Options, UnknownKeyOfTheFileIsNamed) {
  const ConfigFile file("kernel = 'k'\nmemroy = '1G'");
  const std::string error = usage_error({"run", "--config", file.path()});
  EXPECT_THAT(error,
              StartsWith(file.path() + ": line 2: unknown key 'memroy'; the keys are kernel, "));
  EXPECT_THAT(error, HasSubstr(", memory, "));
  const ConfigFile nested("config = 'x'");
  EXPECT_THAT(usage_error({"run", "--config", nested.path()}), HasSubstr("unknown key 'config'"));
}

TEST(Options, MistakesInTheFileNameTheLine) {
  const ConfigFile broken("kernel = 'k'\nmemory = 1G");
  EXPECT_THAT(usage_error({"run", "--config", broken.path()}),
              AllOf(StartsWith(broken.path() + ": line 2: "), HasSubstr("strings in quotes")));
  const ConfigFile list("kernel = ['a', 'b']");
  EXPECT_THAT(usage_error({"run", "--config", list.path()}),
              HasSubstr("line 1: kernel: given more than once"));
}

TEST(Options, MissingConfigFileIsTheHostsFailure) {
  for (const char* const path : {"/nonexistent/vm.toml", "/tmp"}) {
    const auto command = parse(run_with({"--config", path}));
    ASSERT_FALSE(command);
    EXPECT_EQ(command.error().kind, CommandError::Kind::kHost);
    EXPECT_THAT(command.error().error.message(), StartsWith(path));
  }
}

}  // namespace
}  // namespace wick::cli
