#include "control/record.h"

#include <fmt/ranges.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace wick::control {

namespace {

using Json = nlohmann::json;

// JSON is written without the library, because each run writes a record before its guest starts.

// The number of bytes of the UTF-8 sequence at the start of `text`; 0: it is not one.
size_t sequence_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const size_t count = first < 0x80             ? 1
                       : (first & 0xe0) == 0xc0 ? 2
                       : (first & 0xf0) == 0xe0 ? 3
                       : (first & 0xf8) == 0xf0 ? 4
                                                : 0;
  if (count == 0 || count > text.size()) return 0;
  if (count == 1) return 1;
  uint32_t code = first & (0x7fu >> count);
  for (size_t i = 1; i < count; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  // RFC 3629, 3: no overlong forms, no surrogates, nothing above U+10FFFF.
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return code >= kLeast[count] && code <= 0x10ffff && !surrogate ? count : 0;
}

std::string json_text(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const size_t count = sequence_bytes(text);
    const char c = text.front();
    if (count == 0)
      out += "\xef\xbf\xbd";
    else if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (static_cast<unsigned char>(c) < ' ')
      out += fmt::format("\\u{:04x}", c);
    else
      out += text.substr(0, count);
    text.remove_prefix(std::max<size_t>(count, 1));
  }
  return out + '"';
}

// Reads the members of a JSON object by name and type.
class Members {
 public:
  static Result<Members> of(const Json& value) {
    if (!value.is_object()) return fail("it is not a JSON object");
    return Members(value);
  }

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
  std::vector<std::string> consoles, arguments;
  for (const auto& [port, socket] : record.consoles)
    consoles.push_back(
        fmt::format(R"({{"port":{},"socket":{}}})", json_text(port), json_text(socket)));
  for (const std::string& argument : record.arguments) arguments.push_back(json_text(argument));
  return fmt::format(
      R"({{"name":{},"pid":{},"start-ticks":{},"since":{},"background":{},"uuid":{},)"
      R"("kernel":{},"memory":{},"cpus":{},"console-log":{},"consoles":[{}],"folder":{},)"
      R"("arguments":[{}]}})"
      "\n",
      json_text(record.name), record.pid, record.start_ticks, record.since, record.background,
      json_text(record.uuid), json_text(record.kernel), record.memory_bytes, record.cpus,
      json_text(record.console_log), fmt::join(consoles, ","), json_text(record.folder),
      fmt::join(arguments, ","));
}

std::string to_json(const EndingRecord& ending) {
  return fmt::format("{{\"status\":{},\"reason\":{},\"when\":{}}}\n", ending.status,
                     json_text(ending.reason), ending.when);
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
