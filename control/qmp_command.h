// The commands of QMP. One table has, for each command, the arguments, the type of the answer and
// the function that executes it. The functions are declared in qmp_handlers.h.
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
  std::string_view arguments;  // the declaration, as in qmp_types.h
  std::string_view returns;    // the type of the answer; empty: an empty object
  // The function; exactly one of the two is set, except for qmp_capabilities, which has neither
  // because it belongs to the session. The arguments have been checked against `arguments`. A
  // command that answers later calls its Done on the main loop.
  Answer (*run)(Context& context, const Json& arguments) = nullptr;
  void (*start)(Context& context, const Json& arguments, Done done) = nullptr;
};

std::span<const Command> commands();
const Command* find_command(std::string_view name);

// Returns QMP's object for an error: {"class": ..., "desc": ...}.
Json to_json(const CommandError& error);

// Helpers for the functions of commands.

inline Json nothing() { return Json::object(); }
std::unexpected<CommandError> generic(std::string text);
std::unexpected<CommandError> device_not_found(const std::string& id);
// Returns an empty object, or a GenericError if `result` is an error.
Answer answer(const Result<void>& result);
// These functions return an optional argument, or `otherwise` if the argument is absent.
std::string text_or(const Json& arguments, std::string_view key, std::string_view otherwise);
bool bool_or(const Json& arguments, std::string_view key, bool otherwise);

}  // namespace wick::control::qmp
