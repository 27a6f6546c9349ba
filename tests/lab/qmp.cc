#include "tests/lab/qmp.h"

#include <cctype>
#include <chrono>
#include <string>
#include <thread>

#include "tests/fakes/wait_for.h"

namespace wick::lab {

namespace {

Dialogue connect(const std::string& path) {
  if (!fakes::wait_for([&] { return exists(path); }, kPatience)) give_up(path + " does not appear");
  return Dialogue::connect(path);
}

// The keys of one character of a US keyboard.
std::vector<std::string> keys_of(char character) {
  struct Key {
    char plain, shifted;
    const char* name;
  };
  static constexpr Key kKeys[] = {
      {'1', '!', "1"},
      {'2', '@', "2"},
      {'3', '#', "3"},
      {'4', '$', "4"},
      {'5', '%', "5"},
      {'6', '^', "6"},
      {'7', '&', "7"},
      {'8', '*', "8"},
      {'9', '(', "9"},
      {'0', ')', "0"},
      {'-', '_', "minus"},
      {'=', '+', "equal"},
      {'[', '{', "bracket_left"},
      {']', '}', "bracket_right"},
      {';', ':', "semicolon"},
      {'\'', '"', "apostrophe"},
      {'`', '~', "grave_accent"},
      {'\\', '|', "backslash"},
      {',', '<', "comma"},
      {'.', '>', "dot"},
      {'/', '?', "slash"},
      {' ', ' ', "spc"},
      {'\n', '\n', "ret"},
  };
  const auto byte = static_cast<unsigned char>(character);
  if (std::islower(byte)) return {{character}};
  if (std::isupper(byte)) return {"shift", {static_cast<char>(std::tolower(byte))}};
  for (const Key& key : kKeys) {
    if (key.plain == character) return {key.name};
    if (key.shifted == character) return {"shift", key.name};
  }
  give_up(std::string("no key has the character ") + character);
}

}  // namespace

Qmp::Qmp(const std::string& path) : dialogue_(connect(path)) {
  dialogue_.expect("\n");
  (void)execute("qmp_capabilities");
}

Qmp::Json Qmp::execute(const std::string& command, const Json& arguments) {
  dialogue_.send(Json{{"execute", command}, {"arguments", arguments}}.dump() + "\n");
  for (;;) {
    Json answer = Json::parse(dialogue_.expect("\n"));
    if (answer.contains("return")) return answer["return"];
    if (answer.contains("error")) give_up(command + ": " + answer.dump());
    events_.push_back(std::move(answer));
  }
}

Qmp::Json Qmp::await_event(const std::string& name, Seconds patience) {
  for (;;) {
    while (!events_.empty()) {
      const Json event = events_.front();
      events_.erase(events_.begin());
      if (event["event"] == name) return event.value("data", Json::object());
    }
    events_.push_back(Json::parse(dialogue_.expect("\n", patience)));
  }
}

void Qmp::press(const std::vector<std::string>& keys) {
  Json names = Json::array();
  for (const std::string& key : keys) names.push_back({{"type", "qcode"}, {"data", key}});
  (void)execute("send-key", {{"keys", names}, {"hold-time", 20}});
  // Longer than the keys are held, because QEMU answers before it releases them. The BIOS's
  // buffer has 16 keys.
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
}

void Qmp::type(std::string_view text) {
  for (const char character : text) press(keys_of(character));
}

}  // namespace wick::lab
