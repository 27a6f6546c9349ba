#include "cli/ending.h"

#include <algorithm>
#include <csignal>
#include <string_view>

#include "base/printable.h"
#include "devices/debug_exit.h"

namespace wick::cli {
namespace {

struct Outcome {
  int status = 0;
  const char* name = "";
  bool needs_evidence = false;
};

Outcome outcome_of(const vmm::RunReport& report) {
  switch (report.ending) {
    case vmm::Ending::kPoweredOff:
      return {0, "the guest powered off"};
    // A reboot or a halt without any output is a failure: a kernel that dies early writes nothing,
    // and a script must not take that for success. A power-off is always deliberate.
    case vmm::Ending::kRebooted:
      if (report.silent) return {3, "the guest rebooted without having written anything", true};
      return {0, "the guest rebooted"};
    case vmm::Ending::kHalted:
      if (report.silent)
        return {3, "the guest halted for good without having written anything", true};
      return {0, "the guest halted for good"};
    case vmm::Ending::kQuit:
      return {0, "ended by the user"};
    case vmm::Ending::kHostFailed:
      return {1, "the host failed"};
    case vmm::Ending::kPanicked:
      return {3, "the guest's kernel panicked", true};
    case vmm::Ending::kTripleFault:
      return {4, "triple fault in the guest", true};
    case vmm::Ending::kTimeout:
      return {5, "the time ran out", true};
    case vmm::Ending::kKvmError:
      return {6, "KVM could not go on", true};
    case vmm::Ending::kSignal:
      return {128, "ended by signal"};
    case vmm::Ending::kDebugExit:
      return {devices::DebugExit::exit_status(report.debug_exit_value),
              "the guest ended the run with status"};
  }
  return {1, "the host failed"};
}

constexpr size_t kShownConsoleLines = 20;

// Returns `text` with each line indented.
std::string indented(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    out += fmt::format("  {}\n", text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return out;
}

std::string evidence(const vmm::RunReport& report) {
  std::string text;
  if (report.console_lines.empty()) {
    text += "wick: the console showed nothing\n";
  } else {
    text += "wick: the console's last lines:\n";
    const size_t count = report.console_lines.size();
    for (size_t i = count - std::min(count, kShownConsoleLines); i < count; ++i)
      text += fmt::format("  {}\n", printable(report.console_lines[i], true));
  }
  for (size_t i = 0; i < report.cpus.size(); ++i) {
    const auto& [registers, last_exits] = report.cpus[i];
    if (report.ending == vmm::Ending::kTripleFault)
      text += fmt::format(
          "wick: vcpu{}, last known before the fault:\n{}"
          "wick: vcpu{}, {}:\n{}",
          i, indented(last_exits), i,
          report.registers_were_reset ? "after the fault (KVM on AMD resets the registers)"
                                      : "at the fault",
          indented(registers));
    else
      text += fmt::format("wick: vcpu{}, at the end:\n{}{}", i, indented(registers),
                          indented(last_exits));
  }
  return text;
}

}  // namespace

int exit_status(const vmm::RunReport& report) {
  const int status = outcome_of(report).status;
  return report.ending == vmm::Ending::kSignal ? status + report.signal : status;
}

std::string describe(const vmm::RunReport& report, std::string_view hint) {
  const Outcome outcome = outcome_of(report);
  std::string text = outcome.needs_evidence ? evidence(report) : "";
  if (!hint.empty()) text += fmt::format("wick: hint: {}\n", printable(hint));
  text += fmt::format("wick: {}", outcome.name);
  if (report.ending == vmm::Ending::kSignal) {
    const char* const abbreviation = ::sigabbrev_np(report.signal);
    text += fmt::format(" {} (SIG{})", report.signal, abbreviation ? abbreviation : "?");
  }
  if (report.ending == vmm::Ending::kDebugExit)
    text += fmt::format(" {}: it wrote {:#x} to its debug-exit port", outcome.status,
                        report.debug_exit_value);
  if (!report.detail.empty()) text += fmt::format(": {}", printable(report.detail));
  return text + '\n';
}

}  // namespace wick::cli
