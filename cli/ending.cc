#include "cli/ending.h"

#include <csignal>
#include <string_view>

namespace wick::cli {
namespace {

struct Outcome {
  int status = 0;
  const char* name = "";
  bool needs_evidence = false;
};

Outcome outcome_of(Ending ending) {
  switch (ending) {
    case Ending::kPoweredOff:
      return {0, "the guest powered off"};
    case Ending::kRebooted:
      return {0, "the guest rebooted"};
    case Ending::kHalted:
      return {0, "the guest halted for good"};
    case Ending::kQuit:
      return {0, "ended from the terminal"};
    case Ending::kHostFailed:
      return {1, "the host failed"};
    case Ending::kPanicked:
      return {3, "the guest's kernel panicked", true};
    case Ending::kTripleFault:
      return {4, "triple fault in the guest", true};
    case Ending::kTimeout:
      return {5, "the time ran out", true};
    case Ending::kKvmError:
      return {6, "KVM could not go on", true};
    case Ending::kSignal:
      return {128, "ended by signal"};
  }
  return {1, "the host failed"};
}

// `text` with control characters as \xNN, so that a guest's last lines cannot
// drive the terminal that shows them.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = (byte < 0x20 && c != '\t') || byte == 0x7f;
    out += control ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return out;
}

// Each line of `text`, indented.
std::string indented(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    out += fmt::format("  {}\n", text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return out;
}

std::string evidence(const RunReport& report) {
  std::string text;
  if (report.console_lines.empty()) {
    text += "wick: the console showed nothing\n";
  } else {
    text += "wick: the console's last lines:\n";
    for (const std::string& line : report.console_lines)
      text += fmt::format("  {}\n", printable(line));
  }
  // KVM on AMD resets the vCPU before user space sees a triple fault.
  const char* const when =
      report.ending == Ending::kTripleFault ? "last known before the fault" : "at the end";
  for (size_t i = 0; i < report.cpu_states.size(); ++i)
    text += fmt::format("wick: vcpu{}, {}:\n{}", i, when, indented(report.cpu_states[i]));
  return text;
}

}  // namespace

int exit_status(const RunReport& report) {
  const int status = outcome_of(report.ending).status;
  return report.ending == Ending::kSignal ? status + report.signal : status;
}

std::string describe(const RunReport& report) {
  const Outcome outcome = outcome_of(report.ending);
  std::string text = outcome.needs_evidence ? evidence(report) : "";
  text += fmt::format("wick: {}", outcome.name);
  if (report.ending == Ending::kSignal) {
    const char* const abbreviation = ::sigabbrev_np(report.signal);
    text += fmt::format(" {} (SIG{})", report.signal, abbreviation ? abbreviation : "?");
  }
  if (!report.detail.empty()) text += fmt::format(": {}", printable(report.detail));
  return text + '\n';
}

}  // namespace wick::cli
