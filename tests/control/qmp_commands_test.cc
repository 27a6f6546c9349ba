#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "control/qmp_command.h"
#include "control/qmp_events.h"
#include "control/qmp_types.h"
#include "tests/control/session_fixture.h"

namespace wick::control {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Not;
using testing::SizeIs;

class QmpCommands : public ControlTest {
 protected:
  QmpCommands() { client().negotiate(); }
  ScriptedQmp& client() {
    if (!client_) {
      client_ = std::make_unique<ScriptedQmp>(context());
      context().observe_events([this](const vmm::MachineEvent& event) {
        client_->session().send_event(qmp::make_event(context(), event));
      });
    }
    return *client_;
  }
  // The names of the events that came with a command, in order, "STOP".
  std::vector<std::string> events_of(const std::string& name) {
    std::vector<std::string> names;
    for (const Json& message : client().send(Json{{"execute", name}}.dump()))
      names.push_back(message.contains("event") ? message["event"].get<std::string>() : "answer");
    return names;
  }

 private:
  std::unique_ptr<ScriptedQmp> client_;
};

// Whether `value` has the members and types of the declared one.
std::string mismatch(std::string_view type, const Json& value) {
  const Json wrapped = {{"value", value}};
  const auto checked = check_arguments("value:" + std::string(type), wrapped);
  return checked ? "" : checked.error();
}

TEST_F(QmpCommands, AnswerWithTheTypesThatTheSchemaPromises) {
  machine.balloon_ = 1 << 20;
  vmm::PciInfo& function = machine.pci_.emplace_back();
  function.id = "vda";
  function.class_code = 0x010000;
  function.interrupt_pin = 1;
  function.bars = {{4, false, 0, 16384}, {0, true, 0xc000, 64}};
  int checked = 0;
  for (const qmp::Command& command : qmp::commands()) {
    if (!command.name.starts_with("query-")) continue;
    const Json answer = client().value(std::string(command.name));
    EXPECT_EQ(mismatch(command.returns, answer), "") << command.name << " " << answer;
    ++checked;
  }
  EXPECT_GE(checked, 24);
}

TEST_F(QmpCommands, EverySchemaReferenceLeadsToADescription) {
  std::set<std::string> described, referred;
  std::vector<std::string> commands, events;
  for (const Json& entry : client().value("query-qmp-schema")) {
    EXPECT_TRUE(described.insert(entry.at("name").get<std::string>()).second) << entry;
    for (const char* key : {"arg-type", "ret-type", "element-type"})
      if (entry.contains(key)) referred.insert(entry.at(key).get<std::string>());
    for (const char* list : {"members", "variants"})
      for (const Json& member : entry.value(list, Json::array()))
        if (member.contains("type")) referred.insert(member.at("type").get<std::string>());
    if (entry.at("meta-type") == "command") commands.push_back(entry.at("name"));
    if (entry.at("meta-type") == "event") events.push_back(entry.at("name"));
  }
  EXPECT_THAT(described, IsSupersetOf(referred));
  EXPECT_THAT(commands, SizeIs(qmp::commands().size()));
  EXPECT_THAT(events, Contains("GUEST_PANICKED"));
  EXPECT_THAT(client().value("query-commands"), SizeIs(commands.size()));
}

TEST_F(QmpCommands, EveryTypeThatIsNamedIsDefined) {
  // A name that leads nowhere would be an object without members.
  for (const Json& entry : client().value("query-qmp-schema")) {
    if (entry.at("meta-type") == "object" && entry.at("name") != "0") {
      EXPECT_FALSE(entry.at("members").empty()) << entry;
    }
  }
}

TEST_F(QmpCommands, StopAndContReportThemselves) {
  EXPECT_THAT(events_of("stop"), ElementsAre("STOP", "answer"));
  EXPECT_EQ(client().value("query-status").at("status"), "paused");
  EXPECT_THAT(events_of("stop"), ElementsAre("answer"));
  EXPECT_THAT(events_of("cont"), ElementsAre("RESUME", "answer"));
  EXPECT_EQ(client().value("query-status").at("running"), true);
}

TEST_F(QmpCommands, EventsHaveTimeAndData) {
  const auto got = client().send(R"({"execute":"system_reset"})");
  ASSERT_THAT(got, SizeIs(2));
  EXPECT_EQ(got[0].at("event"), "RESET");
  EXPECT_EQ(got[0].at("data"), Json({{"guest", false}, {"reason", "host-qmp-system-reset"}}));
  EXPECT_GT(got[0].at("timestamp").at("seconds"), 1'500'000'000);
  EXPECT_LT(got[0].at("timestamp").at("microseconds"), 1'000'000);
}

TEST_F(QmpCommands, EventsHaveTheDataThatTheSchemaPromises) {
  using Kind = vmm::MachineEvent::Kind;
  vmm::MachineEvent event;
  event.device = "net0";
  event.operation = "read";
  event.action = "stop";
  std::set<std::string> names;
  for (int kind = 0; kind <= static_cast<int>(Kind::kTrayMoved); ++kind) {
    event.kind = static_cast<Kind>(kind);
    event.action = event.kind == Kind::kGuestPanicked ? "" : "stop";
    Json message = qmp::make_event(context(), event);
    const auto name = message.at("event").get<std::string>();
    names.insert(name);
    const auto type = std::ranges::find(qmp::event_types(), name, &qmp::EventType::name);
    ASSERT_NE(type, qmp::event_types().end()) << name;
    const auto checked = check_arguments(type->data, message.value("data", Json::object()));
    EXPECT_TRUE(checked.has_value()) << message << (checked ? "" : checked.error());
    EXPECT_EQ(message.contains("data"), !type->data.empty()) << message;
  }
  EXPECT_EQ(names.size() + 1, qmp::event_types().size()) << "and DUMP_COMPLETED";
}

TEST_F(QmpCommands, QuitAnswersBeforeTheEnd) {
  const auto got = client().send(R"({"execute":"quit"}{"execute":"query-kvm"})");
  ASSERT_THAT(got, Not(IsEmpty()));
  EXPECT_TRUE(got[0].contains("return"));
  EXPECT_THAT(machine.log_,
              Contains("end " + std::to_string(static_cast<int>(vmm::Ending::kQuit))));
}

TEST_F(QmpCommands, FindDisksByDeviceOrNode) {
  EXPECT_EQ(client().error("block_resize", {{"size", 1}}),
            "GenericError: Cannot find device='' nor node-name=''");
  EXPECT_EQ(client().error("block_resize", {{"device", "nope"}, {"size", 1}}),
            "GenericError: Cannot find device='nope' nor node-name=''");
  EXPECT_EQ(client().error("block_resize", {{"device", "vda"}, {"size", -1}}),
            "GenericError: Parameter 'size' expects a >0 size");
  client().value("block_resize", {{"device", "vda"}, {"size", 4096}});
  client().value("block_resize", {{"node-name", "vda"}, {"size", 8192}});
  EXPECT_THAT(machine.log_, ElementsAre("resize_disk vda 4096", "resize_disk vda 8192"));
  machine.refusal_ = Error{ENOSPC, "vda: cannot grow", ""};
  EXPECT_EQ(client().error("block_resize", {{"device", "vda"}, {"size", 4096}}),
            "GenericError: vda: cannot grow: No space left on device");
}

TEST_F(QmpCommands, EjectAndChangeOnlyMedia) {
  EXPECT_EQ(client().error("eject", {{"device", "vda"}}),
            "GenericError: Device 'vda' is not removable");
  EXPECT_EQ(client().error("eject", {{"device", "x"}}), "DeviceNotFound: Device 'x' not found");
  EXPECT_EQ(client().error("eject"), "GenericError: Need exactly one of 'device' and 'id'");
  client().value("eject", {{"id", "sr0"}, {"force", true}});
  client().value("blockdev-change-medium", {{"device", "sr0"}, {"filename", "/new.iso"}});
  EXPECT_THAT(machine.log_, ElementsAre("eject sr0 force", "change_medium sr0 /new.iso"));
}

TEST_F(QmpCommands, PlugADiskAndTakeItOut) {
  const Json node = {{"driver", "qcow2"},
                     {"node-name", "spare"},
                     {"file", {{"driver", "file"}, {"filename", "/spare.qcow2"}}}};
  client().value("blockdev-add", node);
  EXPECT_EQ(client().error("blockdev-add", node),
            "GenericError: Duplicate nodes with node-name='spare'");
  EXPECT_EQ(client().error("device_add", {{"driver", "virtio-blk-pci"}, {"drive", "nope"}}),
            "GenericError: Property 'virtio-blk-device.drive' can't find value 'nope'");
  EXPECT_EQ(client().error("device_add",
                           {{"driver", "virtio-blk-pci"}, {"drive", "spare"}, {"colour", "red"}}),
            "GenericError: Property 'virtio-blk-pci.colour' not found");
  const Json plug = {{"driver", "virtio-blk-pci"}, {"drive", "spare"}, {"id", "vdb"}};
  client().value("device_add", plug);
  EXPECT_THAT(machine.log_, ElementsAre("add_disk vdb /spare.qcow2"));
  machine.disks_.emplace_back().id = "vdb";
  EXPECT_EQ(client().error("device_add", plug), "GenericError: Duplicate ID 'vdb'");
  EXPECT_EQ(client().error("blockdev-del", {{"node-name", "spare"}}),
            "GenericError: Node spare is in use");
  client().value("device_del", {{"id", "vdb"}});
  machine.disks_.pop_back();
  const Json nodes = client().value("query-named-block-nodes");
  EXPECT_TRUE(std::ranges::any_of(nodes, [](const Json& one) {
    return one["node-name"] == "spare";
  })) << nodes;
  client().value("blockdev-del", {{"node-name", "spare"}});
  EXPECT_EQ(client().error("device_del", {{"id", "vdb"}}),
            "DeviceNotFound: Device 'vdb' not found");
}

TEST_F(QmpCommands, PlugADiskFromAFileNodeAsLibvirtDoes) {
  client().value("blockdev-add",
                 {{"driver", "file"}, {"node-name", "storage"}, {"filename", "/d.raw"}});
  client().value("blockdev-add", {{"driver", "raw"}, {"node-name", "format"}, {"file", "storage"}});
  client().value("device_add", {{"driver", "virtio-blk-pci"}, {"drive", "format"}, {"id", "vdb"}});
  EXPECT_THAT(machine.log_, ElementsAre("add_disk vdb /d.raw"));
}

TEST_F(QmpCommands, PlugACardWithItsForwards) {
  client().value(
      "netdev_add",
      {{"type", "user"}, {"id", "n1"}, {"hostfwd", {{{"str", "tcp:127.0.0.1:2222-:22"}}}}});
  client().value(
      "device_add",
      {{"driver", "e1000"}, {"netdev", "n1"}, {"id", "net1"}, {"mac", "52:54:00:00:00:01"}});
  EXPECT_THAT(machine.log_,
              ElementsAre("add_card net1", "add_forward net1 tcp:127.0.0.1:2222-:22"));
  EXPECT_THAT(client().error("device_add", {{"driver", "e1000"}, {"netdev", "n2"}}),
              HasSubstr("can't find value 'n2'"));
}

TEST_F(QmpCommands, BoundWhatAClientCanAdd) {
  for (size_t i = 0; i < Context::kMaxSpares; ++i)
    client().value("netdev_add", {{"type", "user"}, {"id", "n" + std::to_string(i)}});
  EXPECT_THAT(client().error("netdev_add", {{"type", "user"}, {"id", "more"}}),
              HasSubstr("too many"));
  for (const char* id : {"", "a/b", "../x", "a b", "%n", "0123456789012345678901234567890123"})
    EXPECT_THAT(client().error("netdev_add", {{"type", "user"}, {"id", id}}),
                HasSubstr("identifier"));
}

TEST_F(QmpCommands, SendKeys) {
  const auto keys = [](std::vector<Json> values) {
    return Json{{"keys", Json(std::move(values))}};
  };
  const Json ctrl = {{"type", "qcode"}, {"data", "ctrl"}};
  const Json a = {{"type", "number"}, {"data", 0x1e}};
  EXPECT_THAT(client().error("send-key", keys({a})), HasSubstr("no keyboard"));
  machine.keyboard_ = true;
  client().value("send-key", keys({ctrl, a}));
  Json held = keys({a});
  held["hold-time"] = 7;
  client().value("send-key", held);
  EXPECT_THAT(machine.log_, ElementsAre("send_keys 29 30 for 100", "send_keys 30 for 7"));
}

TEST_F(QmpCommands, RefuseKeysThatAreWrong) {
  machine.keyboard_ = true;
  const auto error = [&](const Json& value) {
    return client().error("send-key", {{"keys", Json::array({value})}});
  };
  EXPECT_THAT(error({{"type", "qcode"}, {"data", "nope"}}),
              HasSubstr("'keys[0].data' does not accept value 'nope'"));
  EXPECT_THAT(error({{"type", "qcode"}, {"data", 1}}), HasSubstr("expected: string"));
  EXPECT_THAT(error({{"type", "qcode"}, {"data", "unmapped"}}), HasSubstr("no key"));
  EXPECT_THAT(error({{"type", "number"}, {"data", "a"}}), HasSubstr("expected: integer"));
  EXPECT_THAT(error({{"type", "number"}, {"data", -1}}), HasSubstr("no key"));
  EXPECT_THAT(error({{"type", "qcode"}}), HasSubstr("'keys[0].data' is missing"));
  EXPECT_THAT(error({{"data", "a"}}), HasSubstr("'keys[0].type' is missing"));
  EXPECT_THAT(error("a"), HasSubstr("expected: object"));
  const Json a = {{"type", "qcode"}, {"data", "a"}};
  EXPECT_THAT(client().error("send-key", {{"keys", std::vector<Json>(17, a)}}),
              HasSubstr("at most 16"));
  for (const int64_t hold : {int64_t{-1}, int64_t{60'001}, INT64_MAX})
    EXPECT_THAT(client().error("send-key", {{"keys", Json::array({a})}, {"hold-time", hold}}),
                HasSubstr("'hold-time'"));
  EXPECT_THAT(machine.log_, IsEmpty());
}

TEST_F(QmpCommands, ADumpNeedsAFileAndAWriter) {
  EXPECT_THAT(client().error("dump-guest-memory", {{"paging", false}, {"protocol", "file:/c"}}),
              HasSubstr("cannot write dumps"));
  for (const Json& bad :
       {Json{{"paging", false}, {"protocol", "/c"}}, Json{{"paging", false}, {"protocol", "fd:3"}},
        Json{{"paging", false}, {"protocol", "file:"}},
        Json{{"paging", false}, {"protocol", "file:/c"}, {"begin", 1}},
        Json{{"paging", false}, {"protocol", "file:/c"}, {"length", 1}},
        Json{{"paging", true}, {"protocol", "file:/c"}, {"format", "kdump-zlib"}},
        Json{{"paging", false}, {"protocol", "file:/c"}, {"format", "win-dmp"}}})
    EXPECT_THAT(client().error("dump-guest-memory", bad), HasSubstr("GenericError")) << bad;
  EXPECT_THAT(machine.log_, IsEmpty());
}

TEST_F(QmpCommands, RxFilterIsAnnouncedOnceUntilItIsRead) {
  const auto change = [&] {
    machine.publish({.kind = vmm::MachineEvent::Kind::kRxFilterChange, .device = "net0"});
    return client().take_messages().size();
  };
  EXPECT_EQ(change(), 1u);
  EXPECT_EQ(change(), 0u);
  client().value("query-rx-filter", {{"name", "net0"}});
  EXPECT_EQ(change(), 1u);
  EXPECT_EQ(change(), 0u);
  // Another card may get the id of one that was removed.
  machine.publish({.kind = vmm::MachineEvent::Kind::kDeviceDeleted, .device = "net0"});
  (void)client().take_messages();
  EXPECT_EQ(change(), 1u);
  EXPECT_EQ(client().error("query-rx-filter", {{"name", "x"}}),
            "GenericError: invalid net client name: x");
}

TEST_F(QmpCommands, WakeOnlyASleepingGuest) {
  EXPECT_EQ(client().error("system_wakeup"),
            "GenericError: Unable to wake up: guest is not in suspended state");
  machine.state_ = vmm::RunState::kSuspended;
  EXPECT_EQ(client().value("query-status"),
            Json({{"status", "suspended"}, {"running", false}, {"singlestep", false}}));
  client().value("system_wakeup");
  EXPECT_THAT(machine.log_, ElementsAre("wake_up"));
}

TEST_F(QmpCommands, BalloonNeedsADevice) {
  EXPECT_EQ(client().error("query-balloon"),
            "DeviceNotActive: No balloon device has been activated");
  machine.balloon_ = 8 << 20;
  EXPECT_EQ(client().value("query-balloon"), Json({{"actual", 8 << 20}}));
  client().value("balloon", {{"value", 1ull << 40}});
  EXPECT_THAT(machine.log_, ElementsAre("set_balloon 16777216")) << "not more than there is";
}

TEST_F(QmpCommands, ShowFileNamesThatAreNoUtf8) {
  machine.disks_[0].path = "/disk-\xff.raw";
  EXPECT_THAT(client().value("query-block").dump(), HasSubstr("disk-"));
}

TEST_F(QmpCommands, MonitorCommandsAnswerText) {
  EXPECT_EQ(client().value("human-monitor-command", {{"command-line", "info status"}}),
            "VM status: running\r\n");
  EXPECT_EQ(
      client().error("human-monitor-command", {{"command-line", "info cpus"}, {"cpu-index", 7}}),
      "GenericError: Parameter 'cpu-index' expects a CPU number");
  const Json cpus =
      client().value("human-monitor-command", {{"command-line", "info cpus"}, {"cpu-index", 1}});
  EXPECT_THAT(cpus.get<std::string>(), HasSubstr("* CPU #1: thread_id=1001"));
}

}  // namespace
}  // namespace wick::control
