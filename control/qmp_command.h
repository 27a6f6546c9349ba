// The commands of QMP. One table has, for each of them, the arguments, the type of the answer and
// the function that executes it. The functions are in qmp_machine.cc, qmp_block.cc, qmp_devices.cc
// and qmp_hotplug.cc.
//
// Thread rule: the main loop's thread.
#pragma once

#include <expected>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/context.h"
#include "control/json_stream.h"

namespace wick::control::qmp {

// The error classes that clients tell apart (QEMU QMP Reference Manual, "QapiErrorClass").
enum class ErrorClass { kGeneric, kCommandNotFound, kDeviceNotActive, kDeviceNotFound };

struct CommandError {
  ErrorClass kind = ErrorClass::kGeneric;
  std::string text;
};

using Answer = std::expected<Json, CommandError>;
using Done = std::function<void(Answer)>;

struct Command {
  std::string_view name;
  std::string_view arguments;  // as in qmp_types.h
  std::string_view returns;    // a type; empty: an empty object
  // Exactly one of the two is set. The arguments have been checked against `arguments`. A command
  // that answers later calls its Done on the main loop; both are null for qmp_capabilities, which
  // belongs to the session.
  Answer (*run)(Context& context, const Json& arguments) = nullptr;
  void (*start)(Context& context, const Json& arguments, Done done) = nullptr;
};

std::span<const Command> commands();
const Command* find_command(std::string_view name);

// QMP's object for an error: {"class": ..., "desc": ...}.
Json to_json(const CommandError& error);

// -- For the functions of commands. --

inline Json nothing() { return Json::object(); }
std::unexpected<CommandError> generic(std::string text);
std::unexpected<CommandError> device_not_found(const std::string& id);
// An empty object, or a GenericError.
Answer answer(const Result<void>& result);
// An optional argument; `otherwise` if it is absent.
std::string text_or(const Json& arguments, std::string_view key, std::string_view otherwise);
bool bool_or(const Json& arguments, std::string_view key, bool otherwise);

}  // namespace wick::control::qmp
