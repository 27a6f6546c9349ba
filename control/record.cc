#include "control/record.h"

#include <limits>
#include <nlohmann/json.hpp>

namespace wick::control {

namespace {

using Json = nlohmann::json;

// Returns one line of JSON. Paths and names may be invalid UTF-8; such bytes are replaced.
std::string text_of(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

// Reads the members of a JSON object by name and type.
class Members {
 public:
  static Result<Members> of(const Json& value) {
    if (!value.is_object()) return fail("it is not a JSON object");
    return Members(value);
  }

  bool has(const char* key) const { return find(key) != nullptr; }
  Result<std::string> text(const char* key) const {
    const Json* const value = find(key);
    if (value == nullptr || !value->is_string()) return fail("\"{}\" is not a string", key);
    return value->get<std::string>();
  }
  template <typename T>
  Result<T> number(const char* key) const {
    const Json* const value = find(key);
    if (value == nullptr || !value->is_number_integer()) return fail("\"{}\" is not a number", key);
    const bool negative = !value->is_number_unsigned() && value->get<int64_t>() < 0;
    const bool fits =
        negative ? std::cmp_greater_equal(value->get<int64_t>(), std::numeric_limits<T>::min())
                 : std::cmp_less_equal(value->get<uint64_t>(), std::numeric_limits<T>::max());
    if (!fits) return fail("\"{}\" is out of range", key);
    return value->get<T>();
  }
  Result<bool> boolean(const char* key) const {
    const Json* const value = find(key);
    if (value == nullptr || !value->is_boolean()) return fail("\"{}\" is not true or false", key);
    return value->get<bool>();
  }
  Result<const Json*> list(const char* key) const {
    const Json* const value = find(key);
    if (value == nullptr || !value->is_array()) return fail("\"{}\" is not a list", key);
    return value;
  }

 private:
  explicit Members(const Json& object) : object_(object) {}
  const Json* find(const char* key) const {
    const auto value = object_.find(key);
    return value == object_.end() ? nullptr : &*value;
  }

  const Json& object_;
};

Result<Json> parse(std::string_view json) {
  if (json.size() > kMaxRecordBytes) return fail("it is longer than {} bytes", kMaxRecordBytes);
  Json parsed = Json::parse(json, nullptr, false);
  if (parsed.is_discarded()) return fail("it is not JSON");
  return parsed;
}

}  // namespace

std::string to_json(const MachineRecord& record) {
  auto consoles = nlohmann::ordered_json::array();
  for (const auto& [port, socket] : record.consoles)
    consoles.push_back({{"port", port}, {"socket", socket}});
  auto services = nlohmann::ordered_json::array();
  for (const auto& [kind, address] : record.services)
    services.push_back({{"kind", kind}, {"address", address}});
  return text_of({{"name", record.name},
                  {"pid", record.pid},
                  {"start-ticks", record.start_ticks},
                  {"since", record.since},
                  {"background", record.background},
                  {"uuid", record.uuid},
                  {"kernel", record.kernel},
                  {"memory", record.memory_bytes},
                  {"cpus", record.cpus},
                  {"console-log", record.console_log},
                  {"consoles", consoles},
                  {"services", services},
                  {"folder", record.folder},
                  {"arguments", record.arguments}});
}

std::string to_json(const EndingRecord& ending) {
  return text_of({{"status", ending.status}, {"reason", ending.reason}, {"when", ending.when}});
}

Result<MachineRecord> parse_machine_record(std::string_view json) {
  const Json parsed = TRY(parse(json));
  const Members members = TRY(Members::of(parsed));
  MachineRecord record;
  record.name = TRY(members.text("name"));
  record.pid = TRY(members.number<pid_t>("pid"));
  if (record.pid <= 0) return fail("\"pid\" is not the number of a process");
  record.start_ticks = TRY(members.number<uint64_t>("start-ticks"));
  record.since = TRY(members.number<int64_t>("since"));
  record.background = TRY(members.boolean("background"));
  record.uuid = TRY(members.text("uuid"));
  record.kernel = TRY(members.text("kernel"));
  record.memory_bytes = TRY(members.number<uint64_t>("memory"));
  record.cpus = TRY(members.number<uint32_t>("cpus"));
  record.console_log = TRY(members.text("console-log"));
  for (const Json& each : *TRY(members.list("consoles"))) {
    const Members console = TRY(Members::of(each));
    record.consoles.push_back({TRY(console.text("port")), TRY(console.text("socket"))});
  }
  if (members.has("services")) {
    for (const Json& each : *TRY(members.list("services"))) {
      const Members service = TRY(Members::of(each));
      record.services.push_back({TRY(service.text("kind")), TRY(service.text("address"))});
    }
  }
  record.folder = TRY(members.text("folder"));
  for (const Json& each : *TRY(members.list("arguments"))) {
    if (!each.is_string()) return fail("\"arguments\" has an entry that is not a string");
    record.arguments.push_back(each.get<std::string>());
  }
  return record;
}

Result<EndingRecord> parse_ending_record(std::string_view json) {
  const Json parsed = TRY(parse(json));
  const Members members = TRY(Members::of(parsed));
  EndingRecord ending;
  ending.status = TRY(members.number<int>("status"));
  if (ending.status < 0 || ending.status > 255) return fail("\"status\" is not an exit status");
  ending.reason = TRY(members.text("reason"));
  ending.when = TRY(members.number<int64_t>("when"));
  return ending;
}

}  // namespace wick::control
