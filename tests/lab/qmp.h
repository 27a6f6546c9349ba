// A QMP client for machines of wick and of QEMU, and the keys that it can press.
//
// Thread rule: one thread.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tests/lab/process.h"

namespace wick::lab {

class Qmp {
 public:
  using Json = nlohmann::json;

  // Waits for the socket at `path`, then connects to it.
  explicit Qmp(const std::string& path);

  // The value of "return". The test ends if the command fails.
  Json execute(const std::string& command, const Json& arguments = Json::object());
  // Waits for an event that await_event() has not returned before, and drops those before it.
  // Returns its data.
  Json await_event(const std::string& name, Seconds patience = kPatience);
  std::string status() { return execute("query-status")["status"]; }

  // Presses keys together, and releases them. The names are QEMU's: "ret", "spc", "down".
  void press(const std::vector<std::string>& keys);
  // Types printable ASCII and newlines on a US keyboard.
  void type(std::string_view text);

 private:
  Dialogue dialogue_;
  std::vector<Json> events_;
};

}  // namespace wick::lab
