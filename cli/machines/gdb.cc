// The command wick gdb.
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/process.h"
#include "cli/machines/commands.h"
#include "cli/machines/machine.h"
#include "debug/gdb_launch.h"
#include "debug/kaslr_slide.h"

namespace wick::cli::machines {

namespace {

// Returns the address to which SYSCALL jumps on the first vCPU (IA32_LSTAR); 0 if the kernel has
// not set it yet.
Result<uint64_t> syscall_address(const control::MachineView& machine) {
  auto client = TRY(connect(machine));
  const auto answer =
      TRY(client.execute("human-monitor-command", {{"command-line", "info msr 0xc0000082"}}));
  const std::string text = answer.is_string() ? answer.get<std::string>() : std::string();
  const size_t at = text.rfind("0x");
  uint64_t value = 0;
  if (!text.starts_with("0xc0000082: ") ||
      std::from_chars(text.data() + at + 2, text.data() + text.size(), value, 16).ec != std::errc())
    return fail("{}: the monitor did not tell the address of system calls: {}", machine.name(),
                one_line(text));
  return value;
}

Result<void> find_slide(const control::MachineView& machine, debug::GdbLaunch& launch) {
  const auto linked = TRY(debug::read_linked_kernel(launch.vmlinux));
  launch.per_cpu_at_zero = linked.per_cpu_at_zero;
  const uint64_t running = TRY(syscall_address(machine));
  if (running != 0) launch.slide = TRY(debug::kaslr_slide(linked.syscall_entry, running));
  return {};
}

}  // namespace

Result<int> execute(const Gdb& command) {
  const control::MachineView machine = TRY(find_running(command.name));
  debug::GdbLaunch launch{.program = TRY(find_program("gdb")),
                          .target = machine.path("gdb.sock"),
                          .vmlinux = command.vmlinux,
                          .arguments = command.arguments};
  if (!command.vmlinux.empty()) TRY(find_slide(machine, launch));
  const std::vector<std::string> words = debug::gdb_words(launch, [](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
  });
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(launch.program.c_str(), arguments.data());
  return fail_errno(errno, "{}: cannot start", launch.program);
}

}  // namespace wick::cli::machines
