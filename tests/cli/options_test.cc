#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/cli/command_line.h"

namespace wick::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Options, DefaultsAreThoseOfTheInterface) {
  const RunOptions options = run_options({"run", "-k", "bzImage"});
  EXPECT_EQ(options.machine.kernel_path, "bzImage");
  EXPECT_EQ(options.machine.initrd_path, "");
  EXPECT_FALSE(options.machine.cmdline);
  EXPECT_EQ(options.machine.append, "");
  EXPECT_EQ(options.machine.memory_bytes, 512u << 20);
  EXPECT_EQ(options.machine.cpus, 1u);
  EXPECT_TRUE(options.machine.disks.empty());
  ASSERT_EQ(options.machine.serials.size(), 1u);
  EXPECT_EQ(options.machine.serials[0].kind, vmm::SerialConfig::Kind::kStdio);
  EXPECT_TRUE(options.machine.acpi);
  EXPECT_FALSE(options.timeout);
  EXPECT_EQ(options.stats.kind, StatsForm::Kind::kOff);
  EXPECT_FALSE(options.machine.stats);
  EXPECT_EQ(options.log_level, "warning");
}

TEST(Options, TakesTheExampleOfTheInterface) {
  const RunOptions options = run_options({"run", "-k", "alpine-bzImage", "-d", "alpine.ext4", "-s",
                                          "unix:serial.socket", "-m", "256M"});
  EXPECT_EQ(options.machine.kernel_path, "alpine-bzImage");
  ASSERT_EQ(options.machine.disks.size(), 1u);
  EXPECT_EQ(options.machine.disks[0].path, "alpine.ext4");
  ASSERT_EQ(options.machine.serials.size(), 1u);
  EXPECT_EQ(options.machine.serials[0].path, "serial.socket");
  EXPECT_EQ(options.machine.memory_bytes, 256u << 20);
}

TEST(Options, TakesEveryOption) {
  const RunOptions options = run_options(
      {"run",  "--kernel=k", "--initrd", "i",       "-a",  "quiet",       "-m1G", "--cpus",
       "1",    "-d",         "a",        "-d",      "b",   "-s",          "null", "-s",
       "pty",  "--name",     "box",      "--acpi",  "off", "--transport", "mmio", "--on-reboot",
       "exit", "--timeout",  "1.5",      "--stats", "-vv"});
  EXPECT_EQ(options.machine.kernel_path, "k");
  EXPECT_EQ(options.machine.initrd_path, "i");
  EXPECT_EQ(options.machine.append, "quiet");
  EXPECT_EQ(options.machine.memory_bytes, 1u << 30);
  ASSERT_EQ(options.machine.disks.size(), 2u);
  EXPECT_EQ(options.machine.disks[1].path, "b");
  EXPECT_EQ(options.machine.serials.size(), 2u);
  EXPECT_EQ(options.machine.name, "box");
  EXPECT_FALSE(options.machine.acpi);
  EXPECT_EQ(options.timeout, std::chrono::milliseconds(1500));
  EXPECT_EQ(options.stats.kind, StatsForm::Kind::kTable);
  EXPECT_TRUE(options.machine.stats);
  EXPECT_EQ(options.log_level, "debug");
}

TEST(Options, TakesAContextIdentifier) {
  EXPECT_EQ(run_options(run_with({})).machine.vsock_cid, std::nullopt);
  EXPECT_EQ(run_options(run_with({"--vsock", "4294967294"})).machine.vsock_cid, 4294967294u);
  for (const char* const wrong : {"2", "4294967295"})
    EXPECT_THAT(usage_error(run_with({"--vsock", wrong})), HasSubstr("3 to 4294967294")) << wrong;
  for (const char* const wrong : {"auto", "0", "-3", "3:1", "4294967296"})
    EXPECT_THAT(usage_error(run_with({"--vsock", wrong})), HasSubstr("number from 3 on")) << wrong;
}

TEST(Options, TakesAPortInDecimalOrInHexadecimal) {
  EXPECT_EQ(run_options(run_with({})).machine.debug_exit_port, std::nullopt);
  EXPECT_EQ(run_options(run_with({"--debug-exit", "0xf4"})).machine.debug_exit_port, 0xf4);
  EXPECT_EQ(run_options(run_with({"--debug-exit", "244"})).machine.debug_exit_port, 0xf4);
  for (const char* const wrong : {"", "0x", "f4", "-1", "0x10000", "65536", "0xf4,4", " 1"})
    EXPECT_THAT(usage_error(run_with({"--debug-exit", wrong})), HasSubstr("I/O port")) << wrong;
  EXPECT_THAT(usage_error(run_with({"--debug-exit", "0xffff"})), HasSubstr("the last is 0xfffc"));
}

TEST(Options, ValuesMayLookLikeOptionsOrBeEmpty) {
  EXPECT_EQ(run_options(run_with({"-a", "-s"})).machine.append, "-s");
  EXPECT_EQ(run_options(run_with({"-a", "run"})).machine.append, "run");
  EXPECT_EQ(run_options(run_with({"-a", "[a,b]"})).machine.append, "[a,b]");
  EXPECT_EQ(run_options(run_with({"--cmdline=", "--stats"})).machine.cmdline, "");
  EXPECT_EQ(run_options(run_with({"--cmdline", "a=b c=d"})).machine.cmdline, "a=b c=d");
}

TEST(Options, StatsIsAFlagThatMayHaveAValue) {
  using Kind = StatsForm::Kind;
  EXPECT_EQ(run_options({"run", "--stats", "-k", "k"}).stats.kind, Kind::kTable);
  EXPECT_EQ(run_options(run_with({"--stats", "json"})).stats.kind, Kind::kJson);
  const StatsForm form = run_options(run_with({"--stats=json,file=a,,b.json"})).stats;
  EXPECT_EQ(form.kind, Kind::kJson);
  EXPECT_EQ(form.path, "a,b.json");
  EXPECT_EQ(run_options(run_with({}), {{"WICK_STATS", "json"}}).stats.kind, Kind::kJson);
  EXPECT_THAT(usage_error(run_with({"--stats", "xml"})), HasSubstr("must be table or json"));
  EXPECT_THAT(usage_error(run_with({"--stats", "json,to=x"})), HasSubstr("the keys are file"));
}

TEST(Options, VerbosityIsALogLevel) {
  EXPECT_EQ(run_options(run_with({"-v"})).log_level, "info");
  EXPECT_EQ(run_options(run_with({"-v", "-v"})).log_level, "debug");
  EXPECT_EQ(run_options(run_with({"-v"}), {{"WICK_LOG_LEVEL", "error"}}).log_level, "info");
  EXPECT_THAT(usage_error(run_with({"-v", "--log-level", "error"})), HasSubstr("more than once"));
}

TEST(Options, ErrorsNameTheOptionAndItsValue) {
  EXPECT_EQ(usage_error(run_with({"-m", "12Q"})),
            "--memory '12Q': not a size; write a whole number, then K, M or G, such as 512M");
  EXPECT_EQ(usage_error(run_with({"-d", "a,b=c"})),
            "--disk 'a,b=c': unknown key 'b'; the keys are format, readonly, ephemeral, "
            "device, media, cache, cache-size, queues, serial, data-file, backing, rerror, werror");
  EXPECT_EQ(usage_error(run_with({}), {{"WICK_TIMEOUT", "x"}}),
            "WICK_TIMEOUT 'x': not a number of seconds above zero; write one such as 30 or 0.5");
}

TEST(Options, NoneMakesNoCard) {
  EXPECT_TRUE(run_options(run_with({"-n", "none"})).machine.nets.empty());
  EXPECT_EQ(run_options(run_with({"-n", "tap", "-n", "user"})).machine.nets.size(), 2u);
}

TEST(Options, NoTwoCardsOfAMachineHaveTheSameAddress) {
  const auto cards = [](const char* first, const char* second) {
    return run_with({"-n", "tap", "-n", first, "-n", "user", "-n", second});
  };
  EXPECT_EQ(usage_error(cards("tap,mac=52:54:00:12:34:5a", "user,mac=52:54:00:12:34:5A")),
            "--net: two cards with mac=52:54:00:12:34:5a; leave mac out, and wick gives each card "
            "a different one");
  EXPECT_EQ(run_options(cards("tap,mac=52:54:00:12:34:5a", "tap,mac=52:54:00:12:34:5b"))
                .machine.nets.size(),
            4u);
}

TEST(Options, CdromIsShortForADriveOnIde) {
  const auto& disks = run_options(run_with({"--cdrom", "a,b.iso", "-d", "disk"})).machine.disks;
  ASSERT_EQ(disks.size(), 2u);
  EXPECT_EQ(disks[0].path, "disk");
  EXPECT_EQ(disks[1].path, "a,b.iso") << "a file name, not a SPEC";
  EXPECT_EQ(disks[1].device, vmm::DiskConfig::Device::kIde);
  EXPECT_EQ(disks[1].media, vmm::DiskConfig::Media::kCdrom);
  EXPECT_TRUE(disks[1].read_only);
}

TEST(Options, TheRootIsOnTheFirstDisk) {
  const auto root = [](const Arguments& disks) {
    return run_options(run_with(disks)).machine.root_device();
  };
  EXPECT_EQ(root({}), "");
  EXPECT_EQ(root({"-d", "a"}), "/dev/vda");
  EXPECT_EQ(root({"-d", "a,device=ide"}), "/dev/sda");
  EXPECT_EQ(root({"-d", "a,device=ide", "-d", "b"}), "/dev/sda");
  EXPECT_EQ(root({"-d", "a", "-d", "b,device=ide"}), "/dev/vda");
  EXPECT_EQ(root({"--cdrom", "a"}), "") << "a CD-ROM is not a root by default";
  EXPECT_EQ(root({"-d", "a,device=ide,media=cdrom", "-d", "b"}), "/dev/vda");
}

TEST(Options, ThereIsRoomForFourIdeDrives) {
  const Arguments four = {"-d", "a,device=ide", "-d", "b,device=ide",
                          "-d", "c,device=ide", "-d", "d,device=ide"};
  EXPECT_EQ(run_options(run_with(four)).machine.disks.size(), 4u);
  Arguments more = four;
  more.insert(more.end(), {"-d", "e"});
  EXPECT_EQ(run_options(run_with(more)).machine.disks.size(), 5u);
  more.insert(more.end(), {"--cdrom", "f"});
  EXPECT_EQ(
      usage_error(run_with(more)),
      "--disk, --cdrom: no room for f: a machine has at most 4 IDE drives; use device=virtio for "
      "the others");
}

TEST(Options, IdeNeedsPci) {
  for (const Arguments& without : {Arguments{"--transport", "mmio"}, Arguments{"--acpi", "off"}}) {
    Arguments arguments = without;
    arguments.insert(arguments.end(), {"--cdrom", "x"});
    EXPECT_THAT(usage_error(run_with(arguments)),
                StartsWith("--disk, --cdrom: IDE drives need PCI"));
  }
}

TEST(Options, PciNeedsAcpi) {
  EXPECT_THAT(usage_error(run_with({"--transport", "pci", "--acpi", "off"})),
              StartsWith("--transport pci and --acpi off exclude each other"));
  EXPECT_EQ(run_options({"run", "-k", "k", "--acpi", "off"}).machine.transport, std::nullopt);
}

TEST(Options, SeveralCpusNeedAcpi) {
  EXPECT_THAT(usage_error(run_with({"-c", "2", "--acpi", "off"})),
              StartsWith("--cpus 2 and --acpi off exclude each other"));
}

TEST(Options, RefusesInvalidNumbersOfCpus) {
  for (const char* const wrong : {"0", "-1", "2x", "4294967296", ""})
    EXPECT_THAT(usage_error(run_with({"-c", wrong})), HasSubstr("not a number of virtual CPUs"));
}

TEST(Options, SingleValuesAreGivenOnce) {
  EXPECT_EQ(usage_error(run_with({"-m", "1G", "-m", "2G"})),
            "--memory: given more than once; it takes one value");
  EXPECT_THAT(usage_error(run_with({"--config", "a", "--config", "b"})),
              HasSubstr("more than once"));
}

TEST(Options, MissingValuesAreNamed) {
  EXPECT_THAT(usage_error({"run", "-k"}), HasSubstr("--kernel"));
  EXPECT_THAT(usage_error({"run", "--kernel="}), HasSubstr("needs a file name"));
  EXPECT_THAT(usage_error(run_with({"-i", ""})), HasSubstr("needs a file name"));
  EXPECT_THAT(usage_error(run_with({"--name", "a b"})), HasSubstr("contain blanks"));
}

TEST(Options, KernelAndInitrdCanBeLeftOut) {
  EXPECT_EQ(run_options({"run"}).machine.kernel_path, "");
  EXPECT_FALSE(run_options(run_with({"-i", "./auto"})).initrd_auto);
  const RunOptions options = run_options(run_with({"-i", "auto"}));
  EXPECT_TRUE(options.initrd_auto);
  EXPECT_EQ(options.machine.initrd_path, "");
}

TEST(Options, AppendNeedsAGeneratedCommandLine) {
  EXPECT_THAT(usage_error(run_with({"-a", "x", "--cmdline", "y"})), HasSubstr("exclude"));
}

TEST(Options, ThereAreFourSerialPortsAndOneTerminal) {
  const Arguments four = run_with({"-s", "null", "-s", "null", "-s", "null", "-s", "null"});
  EXPECT_EQ(run_options(four).machine.serials.size(), 4u);
  Arguments five = four;
  five.insert(five.end(), {"-s", "pty"});
  EXPECT_THAT(usage_error(five), HasSubstr("5 given; a machine has four"));
  EXPECT_THAT(usage_error(run_with({"-s", "stdio", "-s", "stdio"})), HasSubstr("only one port"));
}

TEST(Options, AConsoleOnStdioTakesItFromTheSerialPort) {
  using Kind = vmm::SerialConfig::Kind;
  const vmm::MachineConfig plain = run_options(run_with({})).machine;
  EXPECT_TRUE(plain.consoles.empty());
  const vmm::MachineConfig machine = run_options(run_with({"--console", "stdio,log=l"})).machine;
  ASSERT_EQ(machine.consoles.size(), 1u);
  EXPECT_EQ(machine.consoles[0].kind, Kind::kStdio);
  EXPECT_EQ(machine.consoles[0].log_path, "l");
  ASSERT_EQ(machine.serials.size(), 1u);
  EXPECT_EQ(machine.serials[0].kind, Kind::kNull);
  EXPECT_EQ(run_options(run_with({"--console", "pty"})).machine.serials[0].kind, Kind::kStdio);
  EXPECT_THAT(usage_error(run_with({"--console", "stdio", "-s", "stdio"})),
              HasSubstr("only one port"));
  const auto two =
      run_options(run_with({"--console", "null", "--console", "pty,name=org.x"})).machine.consoles;
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[1].port_name, "org.x");
  EXPECT_THAT(usage_error(run_with({"--console", "pty,name=a"})), HasSubstr("--console null"));
  EXPECT_THAT(usage_error(run_with(
                  {"--console", "null", "--console", "null,name=a", "--console", "null,name=a"})),
              HasSubstr("two ports with name=a"));
  EXPECT_THAT(usage_error(run_with({"--console", "tcp:1"})), HasSubstr("write stdio, pty"));
}

TEST(Options, EntropyIsOnByDefault) {
  EXPECT_EQ(run_options(run_with({})).machine.rng, "");
  EXPECT_EQ(run_options(run_with({"--rng", "on"})).machine.rng, "");
  EXPECT_EQ(run_options(run_with({"--rng", "off"})).machine.rng, std::nullopt);
  EXPECT_EQ(run_options(run_with({"--rng", "/dev/hwrng"})).machine.rng, "/dev/hwrng");
  EXPECT_THAT(usage_error(run_with({"--rng="})), HasSubstr("needs a file name"));
}

TEST(Options, WhatIsUnknownIsNamed) {
  EXPECT_EQ(
      usage_error({}),
      "no command; the commands are run, exec, attach, image, net, doctor, and start, list and "
      "others for machines by name");
  EXPECT_THAT(usage_error({"boot"}),
              StartsWith("unknown command 'boot'; the commands are run, exec, attach, "));
  EXPECT_EQ(usage_error(run_with({"--memroy", "1G"})),
            "unknown option '--memroy'; did you mean --memory?");
  EXPECT_EQ(usage_error(run_with({"--kernal=x"})),
            "unknown option '--kernal=x'; did you mean --kernel?");
  EXPECT_EQ(usage_error({"image", "check", "--reapir", "all", "x"}),
            "unknown option '--reapir'; did you mean --repair?");
  EXPECT_EQ(usage_error(run_with({"--something-else"})), "unknown option '--something-else'");
  EXPECT_EQ(usage_error(run_with({"-x"})), "unknown option '-x'");
  EXPECT_EQ(usage_error(run_with({"bzImage"})), "'bzImage' is one argument too many");
  EXPECT_EQ(usage_error(run_with({"attach"})), "'attach' is one argument too many");
}

TEST(Options, UsageErrorsPointToTheirHelp) {
  EXPECT_EQ(parse({"boot"}).error().help, "wick --help");
  EXPECT_EQ(parse(run_with({"-m", "x"})).error().help, "wick run --help");
  EXPECT_EQ(parse({"attach"}).error().help, "wick attach --help");
}

TEST(Options, AttachTakesOnePath) {
  const auto command = parse({"attach", "a.socket"});
  ASSERT_TRUE(command);
  EXPECT_EQ(std::get<AttachOptions>(*command).socket_path, "a.socket");
  EXPECT_EQ(usage_error({"attach"}), "PATH is required");
  EXPECT_THAT(usage_error({"attach", "a", "b"}), HasSubstr("too many"));
}

TEST(Doctor, TakesNothing) {
  const auto command = parse_command({"doctor"}, [](const std::string&) { return nullptr; });
  ASSERT_TRUE(command);
  EXPECT_TRUE(std::holds_alternative<DoctorOptions>(*command));
  EXPECT_THAT(usage_error({"doctor", "now"}), HasSubstr("too many"));
}

TEST(Help, FitsAScreenAndEndsWithAnExample) {
  std::vector<Arguments> all = {
      {"--help"}, {"run", "--help"}, {"exec", "--help"}, {"attach", "-h"}, {"doctor", "-h"}};
  for (const char* const verb :
       {"start", "list", "info", "console", "logs", "wait", "shutdown", "reboot", "reset",
        "destroy", "suspend", "resume", "blockresize", "monitor", "gdb", "define", "undefine"})
    all.push_back({verb, "--help"});
  for (const Arguments& arguments : all) {
    const std::string text = printed(arguments);
    EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 60);
    size_t column = 0;
    for (const char c : text) {
      column = c == '\n' ? 0 : column + 1;
      EXPECT_LE(column, 80u) << text;
    }
    const size_t last_line = text.rfind('\n', text.size() - 2) + 1;
    EXPECT_THAT(text.substr(last_line), StartsWith("  wick ")) << text;
  }
}

TEST(Help, IsAlsoACommand) {
  EXPECT_EQ(printed({"help"}), printed({"--help"}));
  EXPECT_EQ(printed({"help", "run"}), printed({"run", "--help"}));
  EXPECT_EQ(printed({"help", "image", "check"}), printed({"image", "check", "--help"}));
  EXPECT_THAT(usage_error({"help", "boot"}), HasSubstr("unknown command 'boot'"));
}

TEST(Help, NamesEveryOptionThatIsThere) {
  const std::string text = printed({"run", "--help"});
  for (const char* const option :
       {"-k,--kernel", "-i,--initrd", "-a,--append", "--cmdline",   "-m,--memory", "-c,--cpus",
        "-d,--disk",   "--cdrom",     "-n,--net",    "-s,--serial", "--console",   "--rng",
        "--transport", "--acpi",      "--hotplug",   "--on-reboot", "--name",      "--timeout",
        "--stats",     "--log-level", "--config",    "-v"}) {
    EXPECT_THAT(text, HasSubstr(option));
  }
}

TEST(Version, IsPrinted) { EXPECT_THAT(printed({"--version"}), StartsWith("wick 0.")); }

}  // namespace
}  // namespace wick::cli
