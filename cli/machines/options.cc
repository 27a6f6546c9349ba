#include "cli/machines/options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "cli/spec.h"
#include "control/registry.h"

namespace wick::cli {

namespace {

using namespace machines;

constexpr OptionRow kName = {"NAME", "", "the machine", 1};
constexpr OptionRow kOutput = {"--output", "human|json", "the output format (human)"};

constexpr OptionRow kListOptions[] = {
    {"--all", nullptr, "also those that have ended or crashed, or are defined"}, kOutput};
constexpr OptionRow kInfoOptions[] = {kOutput, kName};
constexpr OptionRow kConsoleOptions[] = {
    kName, {"PORT", "", "ttyS0 to ttyS3, hvc0, or a port's name (ttyS0)"}};
constexpr OptionRow kMonitorOptions[] = {kName,
                                         {"COMMAND", "", "execute this and leave", 0, 100, true}};
constexpr OptionRow kGdbOptions[] = {kName,
                                     {"VMLINUX", "", "the kernel with its symbols"},
                                     {"ARG", "", "passed on to gdb, behind --", 0, 100, true}};
constexpr OptionRow kLogsOptions[] = {
    {"-f,--follow", nullptr, "show what comes until the machine ends"}, kName};
constexpr OptionRow kShutdownOptions[] = {
    {"--timeout", "SECONDS", "wait so long for the end; status 1 if it does not come"}, kName};
constexpr OptionRow kRebootOptions[] = {
    {"--timeout", "SECONDS", "wait so long for the guest to power off (120)"}, kName};
constexpr OptionRow kOnlyName[] = {kName};
constexpr OptionRow kBlockResizeOptions[] = {
    kName,
    {"DISK", "", "the disk as the guest calls it, such as vda", 1},
    {"SIZE", "", "the new size, with K, M or G; without: in bytes", 1}};
constexpr OptionRow kScreenshotOptions[] = {
    kName, {"FILE", "", "the picture: PNG, or PPM if it ends in .ppm", 1}};
constexpr OptionRow kDefineOptions[] = {{"--name", "NAME", "the name (FILE without .toml)"},
                                        {"FILE", "", "a config file as for wick run --config", 1}};

constexpr const char* kListHelp =
    R"(Shows the caller's machines that run. The state is QMP's, such as running,
paused or io-error; or starting, no answer, ended, crashed (its process was
killed), or defined (wick start NAME starts it).

Example:
  wick list --all)";
constexpr const char* kInfoHelp = R"(Shows what a machine is, has and does, or how it ended.

Example:
  wick info web --output json)";
constexpr const char* kConsoleHelp =
    R"(Connects this terminal to a serial port or console. Ctrl-] leaves; the machine
keeps running.

Example:
  wick console web)";
constexpr const char* kMonitorHelp =
    R"(Without COMMAND, joins this terminal to the monitor; Ctrl-D leaves. A COMMAND
with options stands behind --.

Example:
  wick monitor web info status)";
constexpr const char* kGdbHelp =
    R"(Starts gdb and connects it to the machine, which stops. The symbols of VMLINUX
are moved to where the kernel runs (KASLR), and the kernel's own commands
(lx-ps, $lx_current()) are loaded if its build has made them (vmlinux-gdb.py).

Example:
  wick gdb web linux/vmlinux)";
constexpr const char* kLogsHelp =
    R"(Prints what the guest wrote to its first console, also after its end: at least
the last 16 MiB, or all that is in log=FILE. On a terminal, control characters
are escaped. Only for machines in the background, and those with log=FILE.

Example:
  wick logs -f web)";
constexpr const char* kWaitHelp =
    R"(Waits until the machine has ended, and says how.
Exit status: that of the machine's run; 1 also if its process was killed.

Example:
  wick wait web)";
constexpr const char* kShutdownHelp =
    R"(Presses the power button, which a guest may ignore.

Example:
  wick shutdown --timeout 60 web)";
constexpr const char* kRebootHelp =
    R"(Shuts the guest down by its power button, and starts the machine again with the
same options. ACPI has no button for a reboot. Only for machines in the
background. To reset the machine without asking the guest: wick reset.

Example:
  wick reboot web)";
constexpr const char* kResetHelp =
    R"(Resets the machine at once, like its reset button. The guest may lose data.

Example:
  wick reset web)";
constexpr const char* kDestroyHelp =
    R"(Ends the machine at once; its disks are flushed, but the guest may lose data. A
machine whose wick does not answer within 5 seconds is killed.

Example:
  wick destroy web)";
constexpr const char* kSuspendHelp = R"(Pauses the machine: its CPUs and clocks stand still.

Example:
  wick suspend web)";
constexpr const char* kResumeHelp = R"(Continues a paused machine.

Example:
  wick resume web)";
constexpr const char* kBlockResizeHelp =
    R"(Grows a disk's image and announces its size to the guest.

Example:
  wick blockresize web vda 20G)";
constexpr const char* kScreenshotHelp =
    R"(Writes what the machine's screen shows (wick run --display) to FILE.

Example:
  wick screenshot web screen.png)";
constexpr const char* kDefineHelp =
    R"(Checks FILE and copies it to ~/.config/wick/NAME.toml, for wick start NAME.

Example:
  wick define web.toml)";
constexpr const char* kUndefineHelp =
    R"(Removes ~/.config/wick/NAME.toml, and what a machine of this name that has ended
left: its ending and its logs. A running machine keeps running.

Example:
  wick undefine web)";

Result<std::string> checked_name(const std::string& name) {
  if (auto valid = control::check_machine_name(name); !valid) {
    valid.error().context = "NAME " + valid.error().context;
    return std::unexpected(std::move(valid).error());
  }
  return name;
}

Result<std::string> name_of(const Given& given) { return checked_name(*given.last("NAME")); }

template <typename Named>
Result<MachineCommand> make_named(const Given& given) {
  Named command;
  command.name = TRY(name_of(given));
  return command;
}

Result<std::optional<std::chrono::microseconds>> timeout_of(const Given& given) {
  const auto text = given.last("timeout");
  if (!text) return std::nullopt;
  const auto timeout = parse_seconds(*text);
  if (!timeout) return fail("--timeout '{}': {}", *text, timeout.error().message());
  return *timeout;
}

Result<MachineCommand> make_list(const Given& given) {
  return List{given.has("all"), given.last("output") == "json"};
}

Result<MachineCommand> make_info(const Given& given) {
  return Info{TRY(name_of(given)), given.last("output") == "json"};
}

Result<MachineCommand> make_console(const Given& given) {
  Console console{TRY(name_of(given))};
  console.port = given.last("PORT").value_or(console.port);
  return console;
}

Result<MachineCommand> make_monitor(const Given& given) {
  return Monitor{TRY(name_of(given)), fmt::format("{}", fmt::join(given.all("COMMAND"), " "))};
}

Result<MachineCommand> make_gdb(const Given& given) {
  return Gdb{TRY(name_of(given)), given.last("VMLINUX").value_or(""), given.all("ARG")};
}

Result<MachineCommand> make_logs(const Given& given) {
  return Logs{TRY(name_of(given)), given.has("follow")};
}

Result<MachineCommand> make_shutdown(const Given& given) {
  return Shutdown{TRY(name_of(given)), TRY(timeout_of(given))};
}

Result<MachineCommand> make_reboot(const Given& given) {
  Reboot reboot{TRY(name_of(given))};
  reboot.timeout = TRY(timeout_of(given)).value_or(reboot.timeout);
  return reboot;
}

Result<MachineCommand> make_block_resize(const Given& given) {
  const std::string size = *given.last("SIZE");
  const auto bytes = parse_size(size, 1);
  if (!bytes) return fail("SIZE '{}': {}", size, bytes.error().message());
  return BlockResize{TRY(name_of(given)), *given.last("DISK"), *bytes};
}

Result<MachineCommand> make_screenshot(const Given& given) {
  const std::string file = *given.last("FILE");
  if (file.empty()) return fail("FILE: needs the name of a file");
  return Screenshot{TRY(name_of(given)), file};
}

Result<MachineCommand> make_define(const Given& given) {
  const std::string file = *given.last("FILE");
  if (file.empty()) return fail("FILE: needs the name of a file");
  const auto name = given.last("name");
  return Define{file, TRY(checked_name(name.value_or(std::filesystem::path(file).stem())))};
}

const CommandRow<MachineCommand> kCommands[] = {
    {{"list", "Lists machines.", kListHelp, kListOptions}, make_list},
    {{"info", "Shows a machine.", kInfoHelp, kInfoOptions}, make_info},
    {{"console", "Joins this terminal to a machine.", kConsoleHelp, kConsoleOptions}, make_console},
    {{"logs", "Prints the output of a guest.", kLogsHelp, kLogsOptions}, make_logs},
    {{"wait", "Waits for a machine's end.", kWaitHelp, kOnlyName}, make_named<Wait>},
    {{"shutdown", "Presses the power button.", kShutdownHelp, kShutdownOptions}, make_shutdown},
    {{"reboot", "Shuts a guest down and starts it again.", kRebootHelp, kRebootOptions},
     make_reboot},
    {{"reset", "Resets a machine at once.", kResetHelp, kOnlyName}, make_named<Reset>},
    {{"destroy", "Ends a machine at once.", kDestroyHelp, kOnlyName}, make_named<Destroy>},
    {{"suspend", "Pauses a machine.", kSuspendHelp, kOnlyName}, make_named<Suspend>},
    {{"resume", "Continues a paused machine.", kResumeHelp, kOnlyName}, make_named<Resume>},
    {{"blockresize", "Resizes a disk of a machine.", kBlockResizeHelp, kBlockResizeOptions},
     make_block_resize},
    {{"screenshot", "Saves a picture of the screen.", kScreenshotHelp, kScreenshotOptions},
     make_screenshot},
    {{"monitor", "Talks to a machine's monitor.", kMonitorHelp, kMonitorOptions}, make_monitor},
    {{"gdb", "Debugs a machine with gdb.", kGdbHelp, kGdbOptions}, make_gdb},
    {{"define", "Keeps the options of a machine.", kDefineHelp, kDefineOptions}, make_define},
    {{"undefine", "Forgets a machine that does not run.", kUndefineHelp, kOnlyName},
     make_named<Undefine>},
};

}  // namespace

bool is_machine_command(std::string_view name) {
  return std::ranges::any_of(kCommands, [&](const auto& row) { return name == row.name; });
}

CommandTable<MachineCommand> machine_commands(CLI::App& wick, std::string_view first, bool others) {
  const bool one = is_machine_command(first);
  const bool listed = first == "--help" || !others;
  return {wick, kMachinesHeading, kCommands, first != "--help",
          [&](std::string_view name) { return one ? name == first : listed; }};
}

}  // namespace wick::cli
