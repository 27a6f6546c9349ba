// The commands that change what a machine does.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/output.h"
#include "cli/background.h"
#include "cli/machines/commands.h"
#include "cli/machines/machine.h"
#include "cli/options.h"

namespace wick::cli::machines {

namespace {

using control::MachineView;
using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;

Result<int> ask(const std::string& name, const char* command) {
  const MachineView machine = TRY(find_running(name));
  auto client = TRY(connect(machine));
  TRY(client.execute(command));
  return 0;
}

// Presses the machine's power button and waits for the machine's end.
Result<void> power_off(const MachineView& machine, microseconds timeout) {
  {
    auto client = TRY(connect(machine));
    TRY(client.execute("system_powerdown"));
  }
  if (TRY(machine.wait(duration_cast<milliseconds>(timeout)))) return {};
  return with_hint(fail("{}: the guest has not powered off within {} s", machine.name(),
                        static_cast<double>(timeout.count()) / 1e6),
                   fmt::format("wait longer, or end it: wick destroy {}", machine.name()));
}

}  // namespace

Result<int> execute(const Reset& command) { return ask(command.name, "system_reset"); }
Result<int> execute(const Suspend& command) { return ask(command.name, "stop"); }
Result<int> execute(const Resume& command) { return ask(command.name, "cont"); }

Result<int> execute(const Shutdown& command) {
  if (!command.timeout) return ask(command.name, "system_powerdown");
  const MachineView machine = TRY(find_running(command.name));
  TRY(power_off(machine, *command.timeout));
  return 0;
}

Result<int> execute(const Reboot& command) {
  const MachineView machine = TRY(find_running(command.name));
  const auto record = machine.record();
  if (!record || !record->background)
    return with_hint(
        fail("{}: not a machine that wick start has started", command.name),
        fmt::format("reset it at once, without asking the guest: wick reset {}", command.name));
  // The options are parsed first, so that a machine that cannot start again is not shut down.
  std::vector<std::string> arguments = {"start", command.name};
  arguments.insert(arguments.end(), record->arguments.begin(), record->arguments.end());
  if (record->arguments.empty()) arguments.emplace_back("--log-level=warning");
  // The record has the options from all sources, so the environment is not needed.
  const auto parsed = parse_command(arguments, [](const std::string&) { return nullptr; });
  if (!parsed) return std::unexpected(parsed.error().error);
  if (::chdir(record->folder.c_str()) < 0)
    return fail_errno(errno, "{}: cannot go to the folder in which the machine was started",
                      record->folder);
  TRY(power_off(machine, command.timeout));
  return run_in_background(std::get<RunOptions>(*parsed));
}

Result<int> execute(const Destroy& command) {
  constexpr milliseconds kPatience{5000};
  constexpr milliseconds kFlushPatience{60000};
  const MachineView machine = TRY(find_running(command.name));
  if (auto client = connect(machine, kPatience)) {
    const bool answered = client->execute("quit").has_value();
    if (TRY(machine.wait(answered ? kFlushPatience : kPatience))) return 0;
  }
  TRY(machine.kill());
  if (TRY(machine.wait(kPatience))) return 0;
  return with_hint(fail("{}: the kernel cannot end its process", command.name),
                   "a disk or a network file system may be hanging; see dmesg");
}

Result<int> execute(const BlockResize& command) {
  const MachineView machine = TRY(find_running(command.name));
  auto client = TRY(connect(machine));
  TRY(client.execute("block_resize", {{"device", command.disk}, {"size", command.size_bytes}}));
  return 0;
}

// Sends the path as an absolute path, because the machine writes the file, and its working folder
// may differ from the caller's.
Result<int> execute(const Screenshot& command) {
  const MachineView machine = TRY(find_running(command.name));
  auto client = TRY(connect(machine));
  std::error_code error;
  const std::string path = std::filesystem::absolute(command.path, error);
  TRY(client.execute("screendump",
                     {{"filename", path}, {"format", path.ends_with(".ppm") ? "ppm" : "png"}}));
  return 0;
}

Result<int> execute(const Wait& command) {
  const MachineView machine = TRY(find_machine(command.name));
  (void)TRY(machine.wait(std::nullopt));
  report_error(fmt::format("{}: {}", command.name, ending_text(machine)));
  return ending_status(machine);
}

}  // namespace wick::cli::machines
