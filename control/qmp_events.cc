#include "control/qmp_events.h"

#include <chrono>

#include "control/names.h"
#include "control/qmp_handlers.h"

namespace wick::control::qmp {

namespace {

using vmm::MachineEvent;
using Kind = MachineEvent::Kind;

constexpr EventType kEvents[] = {
    {"SHUTDOWN", "guest:bool reason:ShutdownCause"},
    {"POWERDOWN", ""},
    {"RESET", "guest:bool reason:ShutdownCause"},
    {"STOP", ""},
    {"RESUME", ""},
    {"SUSPEND", ""},
    {"SUSPEND_DISK", ""},
    {"WAKEUP", ""},
    {"GUEST_PANICKED", "action:GuestPanicAction"},
    {"BALLOON_CHANGE", "actual:int"},
    {"BLOCK_IO_ERROR",
     "device:str node-name?:str operation:IoOperationType action:BlockErrorAction nospace?:bool "
     "reason:str"},
    {"NIC_RX_FILTER_CHANGED", "name?:str path:str"},
    {"DEVICE_DELETED", "device?:str path:str"},
    {"DEVICE_TRAY_MOVED", "device:str id:str tray-open:bool"},
    {"DUMP_COMPLETED", "result:DumpQueryResult error?:str"},
};

// Returns an event with the present time; without a member "data" if `data` is null.
Json with_time(std::string_view name, Json data) {
  using namespace std::chrono;
  const auto now = duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
  Json event = {{"timestamp", {{"seconds", now / 1'000'000}, {"microseconds", now % 1'000'000}}},
                {"event", name}};
  if (!data.is_null()) event["data"] = std::move(data);
  return event;
}

Json cause(const MachineEvent& event) {
  return {{"guest", event.guest}, {"reason", event.reason.empty() ? "none" : event.reason}};
}

std::string path_of_card(Context& context, const std::string& id) {
  const auto card = find_card(context.hardware(), id);
  return card ? device_path(*card) : "/machine/peripheral/" + id;
}

Json panic(Context& context, const MachineEvent& event) {
  // "pause" if the machine stops for the panic; "run" if the guest's kernel goes on.
  if (!event.action.empty()) return {{"action", event.action}};
  return {{"action", context.state() == vmm::RunState::kPanicked ? "pause" : "run"}};
}

}  // namespace

std::span<const EventType> event_types() { return kEvents; }

Json make_event(Context& context, const MachineEvent& event) {
  switch (event.kind) {
    case Kind::kStop:
      return with_time("STOP", nullptr);
    case Kind::kResume:
      return with_time("RESUME", nullptr);
    case Kind::kReset:
      return with_time("RESET", cause(event));
    case Kind::kShutdown:
      return with_time("SHUTDOWN", cause(event));
    case Kind::kPowerdown:
      return with_time("POWERDOWN", nullptr);
    case Kind::kSuspend:
      return with_time("SUSPEND", nullptr);
    case Kind::kSuspendDisk:
      return with_time("SUSPEND_DISK", nullptr);
    case Kind::kWakeup:
      return with_time("WAKEUP", nullptr);
    case Kind::kGuestPanicked:
      return with_time("GUEST_PANICKED", panic(context, event));
    case Kind::kBalloonChange:
      return with_time("BALLOON_CHANGE", {{"actual", event.value}});
    case Kind::kBlockIoError:
      return with_time("BLOCK_IO_ERROR", {{"device", event.device},
                                          {"node-name", event.device},
                                          {"operation", event.operation},
                                          {"action", event.action},
                                          {"nospace", event.no_space},
                                          {"reason", event.reason}});
    case Kind::kRxFilterChange:
      return with_time("NIC_RX_FILTER_CHANGED",
                       {{"name", event.device}, {"path", path_of_card(context, event.device)}});
    case Kind::kDeviceDeleted:
      return with_time("DEVICE_DELETED",
                       {{"device", event.device}, {"path", "/machine/peripheral/" + event.device}});
    case Kind::kTrayMoved:
      return with_time(
          "DEVICE_TRAY_MOVED",
          {{"device", event.device}, {"id", event.device}, {"tray-open", event.value == 1}});
  }
  return with_time("STOP", nullptr);
}

Json make_dump_event(const DumpState& state) {
  Json data = {{"result", to_json(state)}};
  if (!state.error.empty()) data["error"] = state.error;
  return with_time("DUMP_COMPLETED", std::move(data));
}

}  // namespace wick::control::qmp
