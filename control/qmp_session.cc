#include "control/qmp_session.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "control/qmp_types.h"

namespace wick::control {

using qmp::Answer;
using qmp::Command;
using qmp::CommandError;
using qmp::ErrorClass;

Json version(const Context& context) {
  return {{"qemu", {{"major", 7}, {"minor", 2}, {"micro", 0}}},
          {"package", context.hooks().version}};
}

QmpSession::QmpSession(Context& context, Events events)
    : context_(context), events_(std::move(events)) {
  send({{"QMP", {{"version", version(context)}, {"capabilities", Json::array()}}}});
}

void QmpSession::receive(std::string_view bytes) {
  stream_.push(bytes);
  work_ = true;
}

bool QmpSession::run_one() {
  if (waiting_ || finished()) return false;
  const auto value = stream_.next();
  if (!value) {
    work_ = false;
    return false;
  }
  const auto request = *value ? parse_json(**value) : std::unexpected(value->error());
  if (request) {
    faults_ = 0;
    execute(*request);
  } else {
    ++faults_;
    reply(qmp::generic(request.error()), std::nullopt);
  }
  return !waiting_ && !finished();
}

namespace {

std::unexpected<CommandError> not_found(std::string text) {
  return std::unexpected(CommandError{ErrorClass::kCommandNotFound, std::move(text)});
}

// Returns the name of the command. Fails if the request is not well-formed.
std::expected<std::string, CommandError> command_name(const Json& request) {
  for (const auto& [key, value] : request.items())
    if (key != "execute" && key != "exec-oob" && key != "arguments" && key != "id")
      return qmp::generic(fmt::format("QMP input member '{}' is unexpected", key));
  const bool out_of_band = request.contains("exec-oob");
  if (out_of_band && request.contains("execute"))
    return qmp::generic("QMP input member 'exec-oob' clashes with 'execute'");
  const char* const key = out_of_band ? "exec-oob" : "execute";
  const auto name = request.find(key);
  if (name == request.end()) return qmp::generic("QMP input lacks member 'execute'");
  if (!name->is_string())
    return qmp::generic(fmt::format("QMP input member '{}' must be a string", key));
  if (const auto arguments = request.find("arguments");
      arguments != request.end() && !arguments->is_object())
    return qmp::generic("QMP input member 'arguments' must be an object");
  // wick does not offer the capability "oob", so no client can have negotiated it.
  if (out_of_band) return qmp::generic("QMP input member 'exec-oob' is unexpected");
  return name->get<std::string>();
}

}  // namespace

void QmpSession::execute(const Json& request) {
  if (!request.is_object())
    return reply(qmp::generic("QMP input must be a JSON object"), std::nullopt);
  std::optional<Json> id;
  if (const auto given = request.find("id"); given != request.end()) id = *given;
  const auto name = command_name(request);
  if (!name) return reply(std::unexpected(name.error()), id);
  const Command* const command = qmp::find_command(*name);
  const bool negotiates =
      command != nullptr && command->run == nullptr && command->start == nullptr;
  if (!negotiated_ && !negotiates)
    return reply(not_found("Expecting capabilities negotiation with 'qmp_capabilities'"), id);
  if (negotiated_ && negotiates)
    return reply(not_found("Capabilities negotiation is already complete, command ignored"), id);
  if (command == nullptr)
    return reply(not_found(fmt::format("The command {} has not been found", *name)), id);

  const Json arguments = request.value("arguments", Json::object());
  if (const auto checked = check_arguments(command->arguments, arguments); !checked)
    return reply(qmp::generic(checked.error()), id);
  if (negotiates) {
    const auto agreed = negotiate(arguments);
    return reply(agreed ? Answer(qmp::nothing()) : std::unexpected(agreed.error()), id);
  }
  start(*command, arguments, std::move(id));
}

std::expected<void, CommandError> QmpSession::negotiate(const Json& arguments) {
  if (const auto enable = arguments.find("enable"); enable != arguments.end())
    for (const Json& capability : *enable)
      return qmp::generic(
          fmt::format("Capability {} not available", capability.get_ref<const std::string&>()));
  negotiated_ = true;
  return {};
}

void QmpSession::start(const Command& command, const Json& arguments, std::optional<Json> id) {
  if (command.run != nullptr) return reply(command.run(context_, arguments), id);
  waiting_ = true;
  const auto inside = std::make_shared<bool>(true);
  command.start(context_, arguments,
                [this, inside, id, alive = std::weak_ptr(alive_)](const Answer& answer) {
                  if (alive.expired() || !waiting_) return;
                  waiting_ = false;
                  reply(answer, id);
                  if (!*inside && !alive.expired() && events_.ready) events_.ready();
                });
  *inside = false;
}

void QmpSession::reply(const Answer& answer, const std::optional<Json>& id) {
  Json message;
  if (answer)
    message["return"] = *answer;
  else
    message["error"] = qmp::to_json(answer.error());
  if (id) message["id"] = *id;
  send(message);
}

void QmpSession::send(const Json& message) {
  if (events_.send) events_.send(to_text(message) + "\r\n");
}

void QmpSession::send_event(const Json& event) {
  if (negotiated_) send(event);
}

}  // namespace wick::control
