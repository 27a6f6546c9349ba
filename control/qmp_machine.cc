// Commands of QMP that concern the machine as a whole.
#include <fmt/format.h>

#include <algorithm>

#include "control/hmp.h"
#include "control/names.h"
#include "control/qmp_events.h"
#include "control/qmp_handlers.h"
#include "control/qmp_session.h"
#include "control/qmp_types.h"

namespace wick::control::qmp {

using vmm::RunState;

Answer query_version(Context& context, const Json&) { return version(context); }

Answer query_commands(Context&, const Json&) {
  Json list = Json::array();
  for (const Command& command : commands()) list.push_back({{"name", command.name}});
  return list;
}

Answer query_schema(Context&, const Json&) {
  std::vector<SchemaEntry> entries;
  for (const Command& command : commands())
    entries.push_back({command.name, false, command.arguments, command.returns});
  for (const EventType& event : event_types())
    entries.push_back({event.name, true, event.data, ""});
  return make_schema(entries);
}

Answer query_status(Context& context, const Json&) {
  const RunState state = context.state();
  return Json{{"running", state == RunState::kRunning},
              {"singlestep", false},
              {"status", state_name(state)}};
}

Answer query_name(Context& context, const Json&) {
  return Json{{"name", context.machine().config().name}};
}

Answer query_uuid(Context& context, const Json&) {
  return Json{{"UUID", uuid_text(context.machine().config().uuid)}};
}

Answer query_kvm(Context&, const Json&) { return Json{{"enabled", true}, {"present", true}}; }

Answer query_machines(Context& context, const Json&) {
  return Json::array({{{"name", "wick"},
                       {"is-default", true},
                       {"cpu-max", std::max(255u, context.machine().config().cpus)},
                       {"hotpluggable-cpus", false},
                       {"numa-mem-supported", false},
                       {"deprecated", false},
                       {"default-cpu-type", "host-x86_64-cpu"},
                       {"default-ram-id", "pc.ram"}}});
}

Answer query_current_machine(Context& context, const Json&) {
  return Json{{"wakeup-suspend-support", context.machine().config().acpi}};
}

Answer query_target(Context&, const Json&) { return Json{{"arch", "x86_64"}}; }

Answer query_cpus_fast(Context& context, const Json&) {
  Json list = Json::array();
  for (uint32_t cpu = 0; cpu < context.inspector().cpu_count(); ++cpu) {
    list.push_back({{"cpu-index", cpu},
                    {"qom-path", fmt::format("/machine/unattached/device[{}]", cpu)},
                    {"thread-id", context.inspector().thread_id(cpu)},
                    {"props", {{"socket-id", 0}, {"core-id", cpu}, {"thread-id", 0}}},
                    {"target", "x86_64"}});
  }
  return list;
}

Answer query_memory_size_summary(Context& context, const Json&) {
  return Json{{"base-memory", context.machine().config().memory_bytes}, {"plugged-memory", 0}};
}

Answer query_balloon(Context& context, const Json&) {
  const auto bytes = context.hardware().balloon_bytes();
  if (!bytes)
    return std::unexpected(
        CommandError{ErrorClass::kDeviceNotActive, "No balloon device has been activated"});
  return Json{{"actual", *bytes}};
}

Answer empty_list(Context&, const Json&) { return Json::array(); }

void stop(Context& context, const Json&, Done done) {
  const auto started = context.stop([done] { done(nothing()); });
  if (!started) done(answer(started));
}

Answer cont(Context& context, const Json&) { return answer(context.cont()); }

void quit(Context& context, const Json&, Done done) {
  done(nothing());
  context.machine().end(vmm::Ending::kQuit);
}

Answer system_reset(Context& context, const Json&) {
  context.machine().reset();
  return nothing();
}

Answer system_powerdown(Context& context, const Json&) {
  context.machine().press_power_button();
  return nothing();
}

Answer system_wakeup(Context& context, const Json&) {
  if (context.state() != RunState::kSuspended)
    return generic("Unable to wake up: guest is not in suspended state");
  return answer(context.machine().wake_up());
}

Answer inject_nmi(Context& context, const Json&) { return answer(context.machine().inject_nmi()); }

Answer balloon(Context& context, const Json& arguments) {
  const auto target = arguments.at("value").get<int64_t>();
  if (target <= 0) return generic("Parameter 'target' expects a size");
  // As in QEMU, a target above the size of the guest's memory means all memory.
  const uint64_t all = context.machine().config().memory_bytes;
  return answer(context.hardware().set_balloon(std::min(static_cast<uint64_t>(target), all)));
}

Answer screendump(Context& context, const Json& arguments) {
  using Format = vmm::Hardware::PictureFormat;
  const bool png = arguments.value("format", "ppm") == "png";
  return answer(context.hardware().save_screen(arguments.at("filename").get<std::string>(),
                                               png ? Format::kPng : Format::kPpm));
}

void human_monitor_command(Context& context, const Json& arguments, Done done) {
  uint32_t cpu = 0;
  if (const auto wanted = arguments.find("cpu-index"); wanted != arguments.end()) {
    const auto index = wanted->get<int64_t>();
    if (index < 0 || index >= context.inspector().cpu_count())
      return done(generic("Parameter 'cpu-index' expects a CPU number"));
    cpu = static_cast<uint32_t>(index);
  }
  const auto monitor = std::make_shared<Hmp>(context, cpu);
  // The function that gets the answer keeps the Hmp alive until then.
  monitor->execute(arguments.at("command-line").get_ref<const std::string&>(),
                   [monitor, done](const std::string& text) { done(Json(text)); });
}

}  // namespace wick::control::qmp
