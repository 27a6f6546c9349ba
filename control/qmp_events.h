// The events of QMP (QEMU QMP Reference Manual).
//
// Thread rule: the main loop's thread.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "control/context.h"
#include "control/json_stream.h"
#include "vmm/machine_event.h"

namespace wick::control::qmp {

struct EventType {
  std::string_view name;
  std::string_view data;  // the members of the event's data, as in qmp_types.h
};

// Returns all types of events, for query-qmp-schema.
std::span<const EventType> event_types();

// These functions return the event as clients get it, with the present time.
Json make_event(Context& context, const vmm::MachineEvent& event);
Json make_dump_event(const DumpState& state);

}  // namespace wick::control::qmp
