// dump-guest-memory and its queries.
#include "control/qmp_handlers.h"

namespace wick::control::qmp {

namespace {

std::expected<DumpRequest, CommandError> parse_request(const Json& arguments) {
  const auto protocol = arguments.at("protocol").get<std::string>();
  if (protocol.starts_with("fd:"))
    return generic("Parameter 'protocol': descriptors cannot be passed here; use 'file:PATH'");
  if (!protocol.starts_with("file:") || protocol.size() == 5)
    return generic("Invalid parameter 'protocol'");
  DumpRequest request{.path = protocol.substr(5)};
  request.paging = arguments.at("paging").get<bool>();

  const std::string format = text_or(arguments, "format", "elf");
  if (format == "kdump-zlib")
    request.format = DumpRequest::Format::kKdumpZlib;
  else if (format != "elf")
    return generic(format + " is not available now");

  const bool begin = arguments.contains("begin");
  if (begin != arguments.contains("length"))
    return generic(begin ? "Parameter 'length' is missing" : "Parameter 'begin' is missing");
  if (!begin) {
    if (format != "elf" && request.paging)
      return generic("kdump-compressed format doesn't support paging or filter");
    return request;
  }
  if (format != "elf") return generic("kdump-compressed format doesn't support paging or filter");
  const auto first = arguments.at("begin").get<int64_t>();
  const auto length = arguments.at("length").get<int64_t>();
  if (first < 0) return generic("Parameter 'begin' expects a value of 0 or more");
  if (length <= 0) return generic("Parameter 'length' expects a value greater than 0");
  request.begin = static_cast<uint64_t>(first);
  request.length = static_cast<uint64_t>(length);
  return request;
}

}  // namespace

void dump_guest_memory(Context& context, const Json& arguments, Done done) {
  const auto request = parse_request(arguments);
  if (!request) return done(std::unexpected(request.error()));
  const bool detach = bool_or(arguments, "detach", false);
  const auto started = context.start_dump(*request, [done, detach](const Result<void>& result) {
    if (!detach) done(answer(result));
  });
  if (!started)
    done(answer(started));
  else if (detach)
    done(nothing());
}

Json to_json(const DumpState& state) {
  constexpr const char* kNames[] = {"none", "active", "completed", "failed"};
  return {{"status", kNames[static_cast<size_t>(state.status)]},
          {"completed", state.done_bytes},
          {"total", state.total_bytes}};
}

Answer query_dump(Context& context, const Json&) { return to_json(context.dump_state()); }

Answer query_dump_capability(Context&, const Json&) {
  return Json{{"formats", {"elf", "kdump-zlib"}}};
}

}  // namespace wick::control::qmp
