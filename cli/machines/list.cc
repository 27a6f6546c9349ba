// The commands wick list and wick info.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/printable.h"
#include "cli/machines/commands.h"
#include "cli/machines/definitions.h"
#include "cli/machines/machine.h"

namespace wick::cli::machines {

namespace {

using Json = nlohmann::ordered_json;
using control::MachineView;

struct Row {
  std::string name;
  std::string state;
  std::optional<control::MachineRecord> record;
  std::optional<control::EndingRecord> ending;
  std::string ending_text;  // empty: the machine has not ended
};

Row row_of(const MachineView& machine) {
  Row row{machine.name(), state_text(machine), machine.record(), {}, {}};
  if (row.state == "ended" || row.state == "crashed") {
    row.ending = machine.ending();
    row.ending_text = machines::ending_text(machine);
  }
  return row;
}

// Returns the part of the JSON output that wick list and wick info have in common.
Json json_of(const Row& row) {
  Json json = {{"name", row.name}, {"state", row.state}};
  if (const auto& record = row.record) {
    json["memory"] = record->memory_bytes;
    json["cpus"] = record->cpus;
    json["since"] = record->since;
    json["background"] = record->background;
    json["uuid"] = record->uuid;
    json["kernel"] = record->kernel;
    json["pid"] = record->pid;
  }
  if (row.ending)
    json["ending"] = {
        {"status", row.ending->status}, {"reason", row.ending->reason}, {"when", row.ending->when}};
  return json;
}

std::string text_of(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

// Prints a table. Each column is as wide as its widest cell; the last column is not padded.
void print_table(const std::vector<std::array<std::string, 5>>& rows) {
  std::array<size_t, 5> widths{};
  for (const auto& row : rows)
    for (size_t i = 0; i + 1 < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
}

Result<std::vector<Row>> rows_of(const List& command) {
  const auto registry = TRY(control::Registry::open());
  std::vector<Row> rows;
  for (const std::string& name : TRY(registry.names())) {
    const auto machine = registry.find(name);
    if (!machine) continue;  // the machine has ended meanwhile
    if (command.all || machine->state() == MachineView::State::kLive)
      rows.push_back(row_of(*machine));
  }
  if (!command.all) return rows;
  for (const std::string& name : defined_machines(definitions_folder()))
    if (std::ranges::find(rows, name, &Row::name) == rows.end())
      rows.push_back({name, "defined", {}, {}, {}});
  std::ranges::sort(rows, {}, &Row::name);
  return rows;
}

// Returns the answer of a query; null if the query failed.
Json query(control::QmpClient& client, const char* command) {
  const auto answer = client.execute(command);
  return answer ? Json(*answer) : Json();
}

// Adds what QMP answers about a running machine.
void add_devices(Json& json, const MachineView& machine) {
  auto client = connect(machine, std::chrono::seconds(2));
  if (!client) return;
  json["disks"] = query(*client, "query-block");
  json["cards"] = query(*client, "query-rx-filter");
  json["balloon"] = query(*client, "query-balloon");
}

std::string member(const Json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto found = object.find(key);
  if (found == object.end()) return "";
  return found->is_string() ? found->get<std::string>() : text_of(*found);
}

void print_line(const char* key, const std::string& value) {
  if (!value.empty()) fmt::print("{:<10} {}\n", std::string(key) + ":", printable(value));
}

void print_devices(const Json& json) {
  if (const auto disks = json.find("disks"); disks != json.end() && disks->is_array())
    for (const Json& disk : *disks) {
      const auto inserted = disk.is_object() ? disk.find("inserted") : disk.end();
      print_line("Disk",
                 fmt::format("{} {}", member(disk, "device"),
                             inserted != disk.end() ? member(*inserted, "file") : "(empty)"));
    }
  if (const auto cards = json.find("cards"); cards != json.end() && cards->is_array())
    for (const Json& card : *cards)
      print_line("Card", fmt::format("{} {}", member(card, "name"), member(card, "main-mac")));
  if (const auto balloon = json.find("balloon"); balloon != json.end() && balloon->is_object())
    if (const auto actual = balloon->find("actual");
        actual != balloon->end() && actual->is_number_unsigned())
      print_line("Balloon", size_text(actual->get<uint64_t>()) + " for the guest");
}

}  // namespace

Result<int> execute(const List& command) {
  const auto rows = TRY(rows_of(command));
  if (command.json) {
    Json list = Json::array();
    for (const Row& row : rows) list.push_back(json_of(row));
    fmt::print("{}\n", text_of(list));
    return 0;
  }
  std::vector<std::array<std::string, 5>> table = {
      {"Name", "State", "Memory", "CPUs", command.all ? "Since or ending" : "Since"}};
  for (const Row& row : rows) {
    const auto& record = row.record;
    std::string last = record ? time_text(record->since) : "";
    if (!row.ending_text.empty()) last = row.ending_text;
    if (row.ending) last += fmt::format(" (status {})", row.ending->status);
    table.push_back({printable(row.name), row.state, record ? size_text(record->memory_bytes) : "-",
                     record ? fmt::to_string(record->cpus) : "-",
                     last.empty() ? "-" : printable(last)});
  }
  print_table(table);
  return 0;
}

Result<int> execute(const Info& command) {
  const MachineView machine = TRY(find_machine(command.name));
  const Row row = row_of(machine);
  Json json = json_of(row);
  if (row.ending_text.empty()) add_devices(json, machine);
  json["folder"] = machine.path("").substr(0, machine.path("").size() - 1);
  if (row.record) {
    Json consoles = Json::object();
    for (const auto& [port, socket] : row.record->consoles) consoles[port] = socket;
    json["consoles"] = consoles;
    Json services = Json::array();
    for (const auto& [kind, address] : row.record->services)
      services.push_back({{"kind", kind}, {"address", address}});
    json["services"] = services;
    json["console-log"] = row.record->console_log;
  }
  if (command.json) {
    fmt::print("{}\n", text_of(json));
    return 0;
  }
  print_line("Name", row.name);
  print_line("State", row.state);
  if (!row.ending_text.empty())
    print_line("Ending", row.ending ? fmt::format("{} (status {}, {})", row.ending_text,
                                                  row.ending->status, time_text(row.ending->when))
                                    : row.ending_text);
  if (const auto& record = row.record) {
    print_line("Memory", size_text(record->memory_bytes));
    print_line("CPUs", fmt::to_string(record->cpus));
    print_line("Since", time_text(record->since));
    print_line("Kernel", record->kernel);
    print_line("UUID", record->uuid);
    if (row.ending_text.empty()) print_line("PID", fmt::to_string(record->pid));
    print_devices(json);
    for (const auto& [port, socket] : record->consoles)
      if (!socket.empty() && row.ending_text.empty()) print_line(port.c_str(), socket);
    for (const auto& [kind, address] : record->services)
      if (row.ending_text.empty()) print_line(kind.c_str(), address);
    print_line("Log", record->console_log);
  }
  print_line("Folder", member(json, "folder"));
  return 0;
}

}  // namespace wick::cli::machines
