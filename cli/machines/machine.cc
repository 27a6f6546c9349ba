#include "cli/machines/machine.h"

#include <unistd.h>

#include <array>
#include <ctime>
#include <nlohmann/json.hpp>

#include "cli/machines/definitions.h"

namespace wick::cli::machines {

using control::MachineView;

Result<MachineView> find_machine(const std::string& name) {
  return TRY(control::Registry::open()).find(name);
}

Result<MachineView> find_running(const std::string& name) {
  MachineView machine = TRY(find_machine(name));
  if (machine.state() == MachineView::State::kLive) return machine;
  const std::string definition = definition_path(definitions_folder(), name);
  const bool defined = !definition.empty() && ::access(definition.c_str(), F_OK) == 0;
  return with_hint(fail("{}: the machine does not run: {}", name, ending_text(machine)),
                   fmt::format("start it: wick start {}{}", name,
                               defined ? "" : " and the options of wick run"));
}

Result<control::QmpClient> connect(const MachineView& machine, std::chrono::milliseconds timeout) {
  return control::QmpClient::connect(machine.path("qmp.sock"), timeout);
}

std::string ending_text(const MachineView& machine) {
  const auto ending = machine.ending();
  return ending ? ending->reason
                : "ended without recording how: wick was killed, or the host failed";
}

int ending_status(const MachineView& machine) {
  const auto ending = machine.ending();
  return ending ? ending->status : 1;
}

std::string state_text(const MachineView& machine) {
  // One machine that does not answer must not delay a list of all machines.
  constexpr std::chrono::milliseconds kPatience{1000};
  switch (machine.state()) {
    case MachineView::State::kEnded:
      return "ended";
    case MachineView::State::kCrashed:
      return "crashed";
    case MachineView::State::kLive:
      break;
  }
  if (!machine.record()) return "starting";
  auto client = connect(machine, kPatience);
  if (!client) return "no answer";
  const auto status = client->execute("query-status");
  if (!status || !status->is_object()) return "no answer";
  const auto text = status->find("status");
  return text != status->end() && text->is_string() ? text->get<std::string>() : "no answer";
}

std::string time_text(int64_t seconds_since_epoch) {
  const time_t time = seconds_since_epoch;
  tm local{};
  std::array<char, 32> text{};
  if (::localtime_r(&time, &local) == nullptr) return "?";
  (void)std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M", &local);
  return text.data();
}

std::string size_text(uint64_t bytes) {
  constexpr uint64_t kGiB = 1 << 30, kMiB = 1 << 20, kKiB = 1 << 10;
  if (bytes >= kGiB && bytes % kGiB == 0) return fmt::format("{} GiB", bytes / kGiB);
  if (bytes % kMiB == 0) return fmt::format("{} MiB", bytes / kMiB);
  return fmt::format("{} KiB", bytes / kKiB);
}

}  // namespace wick::cli::machines
