// A QMP client and a monitor's user over a machine without a guest.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "control/context.h"
#include "control/hmp.h"
#include "control/qmp_events.h"
#include "control/qmp_session.h"
#include "tests/fakes/fake_machine.h"

namespace wick::control {

// The lines that a client has got, parsed.
class ScriptedQmp {
 public:
  explicit ScriptedQmp(Context& context) {
    session_ = std::make_unique<QmpSession>(
        context, QmpSession::Events{.send = [this](std::string_view text) { take(text); },
                                    .ready = [this] { run(); }});
    greeting_ = std::exchange(got_, {});
  }

  // Sends bytes as they are, and returns all that came back.
  std::vector<Json> send(std::string_view bytes) {
    session_->receive(bytes);
    run();
    return std::exchange(got_, {});
  }
  std::vector<Json> take_messages() { return std::exchange(got_, {}); }
  void negotiate() { send(R"({"execute": "qmp_capabilities"})"); }

  // The answer of one command, without events.
  Json execute(const std::string& name, const Json& arguments = Json::object()) {
    const auto messages = send(Json{{"execute", name}, {"arguments", arguments}}.dump());
    for (const Json& message : messages)
      if (!message.contains("event")) return message;
    return nullptr;
  }
  Json value(const std::string& name, const Json& arguments = Json::object()) {
    const Json answer = execute(name, arguments);
    EXPECT_TRUE(answer.contains("return")) << name << ": " << answer;
    return answer.contains("return") ? answer.at("return") : Json();
  }
  // "CLASS: TEXT" of the error of a command that must fail.
  std::string error(const std::string& name, const Json& arguments = Json::object()) {
    return error_of(execute(name, arguments));
  }
  static std::string error_of(const Json& answer) {
    if (!answer.contains("error")) return "no error: " + answer.dump();
    return answer["error"]["class"].get<std::string>() + ": " +
           answer["error"]["desc"].get<std::string>();
  }

  QmpSession& session() { return *session_; }
  const std::vector<Json>& greeting() const { return greeting_; }

 private:
  void run() {
    while (session_ && session_->run_one()) {
    }
  }
  void take(std::string_view text) {
    EXPECT_TRUE(text.ends_with("\r\n"));
    got_.push_back(Json::parse(text, nullptr, false));
    EXPECT_FALSE(got_.back().is_discarded()) << text;
  }

  std::vector<Json> got_, greeting_;
  std::unique_ptr<QmpSession> session_;
};

class ControlTest : public testing::Test {
 protected:
  ControlTest() {
    vmm::DiskInfo disk;
    disk.id = "vda";
    disk.path = "/nonexistent/disk.qcow2";
    disk.format = "qcow2";
    disk.size_bytes = 64 << 20;
    vmm::DiskInfo cdrom;
    cdrom.id = "sr0";
    cdrom.path = "/nonexistent/cd.iso";
    cdrom.format = "raw";
    cdrom.read_only = true;
    cdrom.device = vmm::DiskConfig::Device::kIde;
    cdrom.media = vmm::DiskConfig::Media::kCdrom;
    machine.disks_ = {disk, cdrom};
    vmm::CardInfo card;
    card.id = "net0";
    card.kind = vmm::NetConfig::Kind::kUser;
    card.mac = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
    machine.cards_ = {card};
    machine.consoles_ = {{"ttyS0", "unix:serial.socket", true}};
  }

  Context& context() {
    if (!context_) context_ = std::make_unique<Context>(*loop, machine, hooks);
    return *context_;
  }
  // What a user of the monitor reads, with \n for \r\n.
  std::string monitor(const std::string& line) {
    if (!hmp_) hmp_ = std::make_unique<Hmp>(context());
    std::string text = "(no answer)";
    hmp_->execute(line, [&text](const std::string& answer) { text = answer; });
    std::erase(text, '\r');
    return text;
  }
  void run_loop() {
    loop->stop();
    loop->run();
  }

  std::unique_ptr<EventLoop> loop = EventLoop::create().value();
  vmm::FakeMachine machine;
  Hooks hooks;

 private:
  std::unique_ptr<Context> context_;
  std::unique_ptr<Hmp> hmp_;
};

}  // namespace wick::control
