// What another process may have left in a machine's folder: machine.json, the ending in its lock,
// and the text of /proc/PID/stat. What is accepted means the same when it is written again.
#include <string_view>

#include "control/record.h"
#include "control/registry.h"
#include "control/start_ticks.h"
#include "tests/fuzz/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace wick::control;
  using wick::fuzz::require;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto record = parse_machine_record(text)) {
    require(record->pid > 0);
    const std::string again = to_json(*record);
    const auto parsed = parse_machine_record(again);
    require(parsed && to_json(*parsed) == again);
  }
  if (const auto ending = parse_ending_record(text)) {
    require(ending->status >= 0 && ending->status <= 255);
    require(parse_ending_record(to_json(*ending)).has_value());
  }
  if (check_machine_name(text))
    require(!text.empty() && text.size() <= kMaxMachineNameBytes && text.front() != '.' &&
            text.find('/') == text.npos);
  (void)parse_start_ticks(text);

  // Written from any bytes, a record is valid JSON.
  MachineRecord record;
  record.pid = 1;
  record.name = text;
  record.arguments = {std::string(text)};
  if (size < kMaxRecordBytes / 16) require(parse_machine_record(to_json(record)).has_value());
  return 0;
}
