#include "control/qmp_session.h"

#include <gmock/gmock.h>

#include "tests/control/session_fixture.h"

namespace wick::control {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

class Qmp : public ControlTest {
 protected:
  ScriptedQmp client{context()};
};

TEST_F(Qmp, GreetsWithAVersionAndNoCapability) {
  ASSERT_THAT(client.greeting(), SizeIs(1));
  const Json& greeting = client.greeting()[0].at("QMP");
  EXPECT_EQ(greeting.at("version").at("qemu").at("major"), 7);
  EXPECT_THAT(greeting.at("version").at("package").get<std::string>(), HasSubstr("wick"));
  EXPECT_EQ(greeting.at("capabilities"), Json::array());
}

TEST_F(Qmp, WantsTheNegotiationFirstAndOnce) {
  EXPECT_EQ(client.error("query-status"),
            "CommandNotFound: Expecting capabilities negotiation with 'qmp_capabilities'");
  EXPECT_EQ(client.error("qmp_capabilities", {{"enable", {"oob"}}}),
            "GenericError: Capability oob not available");
  EXPECT_EQ(client.value("qmp_capabilities"), Json::object());
  EXPECT_EQ(client.error("qmp_capabilities"),
            "CommandNotFound: Capabilities negotiation is already complete, command ignored");
  EXPECT_EQ(client.value("query-status").at("status"), "running");
}

TEST_F(Qmp, EchoesAnIdOfAnyType) {
  client.negotiate();
  for (const Json& id : {Json(1), Json("x"), Json(nullptr), Json({1, 2}), Json({{"a", true}})}) {
    const auto got = client.send(Json{{"execute", "query-kvm"}, {"id", id}}.dump());
    ASSERT_THAT(got, SizeIs(1));
    EXPECT_EQ(got[0].at("id"), id);
  }
  EXPECT_FALSE(client.execute("query-kvm").contains("id"));
  EXPECT_EQ(client.send(R"({"execute": "nope", "id": 7})")[0].at("id"), 7);
}

TEST_F(Qmp, NeedsNoFrames) {
  client.negotiate();
  EXPECT_THAT(client.send(R"({"execute":"query-kvm"}{"execute":"query-name"}  [1] )"), SizeIs(3));
  EXPECT_THAT(client.send(R"({"execute")"), SizeIs(0));
  EXPECT_THAT(client.send(R"(:"query-)"), SizeIs(0));
  EXPECT_THAT(client.send(R"(kvm"})"), SizeIs(1));
}

TEST_F(Qmp, ChecksTheFormOfARequest) {
  client.negotiate();
  const auto error = [&](std::string_view bytes) {
    const auto got = client.send(bytes);
    return got.size() == 1 ? ScriptedQmp::error_of(got[0]) : std::to_string(got.size());
  };
  EXPECT_EQ(error("[1]"), "GenericError: QMP input must be a JSON object");
  EXPECT_EQ(error(R"({"id":1})"), "GenericError: QMP input lacks member 'execute'");
  EXPECT_EQ(error(R"({"execute":1})"), "GenericError: QMP input member 'execute' must be a string");
  EXPECT_EQ(error(R"({"execute":"stop","x":1})"),
            "GenericError: QMP input member 'x' is unexpected");
  EXPECT_EQ(error(R"({"execute":"stop","arguments":[]})"),
            "GenericError: QMP input member 'arguments' must be an object");
  EXPECT_THAT(error(R"({"exec-oob":"stop"})"), StartsWith("GenericError"));
  EXPECT_EQ(error(R"({"execute":"a","execute":"b"})"),
            "GenericError: JSON parse error, duplicate key");
  EXPECT_EQ(client.error("foo"), "CommandNotFound: The command foo has not been found");
  EXPECT_THAT(machine.log_, ElementsAre());
}

TEST_F(Qmp, ChecksArguments) {
  client.negotiate();
  EXPECT_EQ(client.error("query-status", {{"x", 1}}), "GenericError: Parameter 'x' is unexpected");
  EXPECT_EQ(client.error("balloon"), "GenericError: Parameter 'value' is missing");
  for (const Json& value : {Json("1"), Json(1.5), Json(nullptr), Json(~0ull)})
    EXPECT_EQ(client.error("balloon", {{"value", value}}),
              "GenericError: Invalid parameter type for 'value', expected: integer");
  EXPECT_EQ(client.error("balloon", {{"value", -1}}),
            "GenericError: Parameter 'target' expects a size");
  EXPECT_EQ(client.error("set_link", {{"name", "net0"}, {"up", "on"}}),
            "GenericError: Invalid parameter type for 'up', expected: boolean");
  EXPECT_EQ(client.error("qmp_capabilities", {{"enable", 1}}),
            "CommandNotFound: Capabilities negotiation is already complete, command ignored");
  EXPECT_EQ(client.error("dump-guest-memory",
                         {{"paging", false}, {"protocol", "file:x"}, {"format", "zip"}}),
            "GenericError: Parameter 'format' does not accept value 'zip'");
}

TEST_F(Qmp, GoesOnAfterGarbage) {
  client.negotiate();
  const auto then_works = [&](std::string_view garbage) {
    const auto got = client.send(std::string(garbage) +
                                 "\n"
                                 R"({"execute":"query-kvm"})");
    EXPECT_GE(got.size(), 2u) << garbage;
    if (got.empty()) return;
    EXPECT_TRUE(got.front().contains("error")) << garbage;
    EXPECT_TRUE(got.back().contains("return")) << garbage;
  };
  then_works("xyz");
  then_works("@");
  then_works("}");
  then_works("{]");
  then_works("\xff");
  then_works("\xff\xff\xff");
  then_works("{\"a\":\xff");
  then_works("\"abc\xff");
  then_works("{\"execute\":\"\x01\"}");
  then_works("{\"execute\":\"\xc3\x28\"}");
  then_works("{\"execute\" 1}");
  then_works("[1,]");
  then_works("01");
  then_works("1e999");
  then_works(std::string(5000, '['));
  then_works(std::string(2 << 20, 'a'));
}

TEST_F(Qmp, ResynchronizesAtOnceAfterAByteThatIsNoJson) {
  client.negotiate();
  const auto got = client.send("{\"execute\":\"quit\xff{\"execute\":\"query-kvm\"}");
  ASSERT_THAT(got, SizeIs(2));
  EXPECT_TRUE(got[0].contains("error"));
  EXPECT_TRUE(got[1].contains("return"));
}

TEST_F(Qmp, BoundsAValueWithoutEnd) {
  client.negotiate();
  std::vector<Json> got;
  for (int i = 0; i < 640; ++i)  // 10 MiB
    for (Json& message : client.send((i == 0 ? "\"" : "") + std::string(16384, 'a')))
      got.push_back(std::move(message));
  ASSERT_THAT(got, SizeIs(1));
  EXPECT_EQ(ScriptedQmp::error_of(got[0]), "GenericError: JSON token size limit exceeded");
  client.send("\n");
  EXPECT_TRUE(client.execute("query-kvm").contains("return"));
}

TEST_F(Qmp, AllowsDeepButNotTooDeepValues) {
  client.negotiate();
  const auto nested = [](size_t depth) {
    return R"({"execute":"query-kvm","id":)" + std::string(depth - 1, '[') +
           std::string(depth - 1, ']') + "}";
  };
  EXPECT_TRUE(client.send(nested(JsonStream::kMaxDepth)).at(0).contains("return"));
  EXPECT_EQ(ScriptedQmp::error_of(client.send(nested(JsonStream::kMaxDepth + 1)).at(0)),
            "GenericError: JSON nesting depth limit exceeded");
}

TEST_F(Qmp, GivesUpAClientThatSendsOnlyGarbage) {
  client.negotiate();
  for (int i = 0; i < QmpSession::kMaxFaults + 10; ++i) client.send("?\n");
  EXPECT_TRUE(client.session().finished());
  EXPECT_THAT(client.send(R"({"execute":"query-kvm"})"), SizeIs(0));
}

TEST_F(Qmp, NegotiatesWithEachClientForItself) {
  ScriptedQmp other(context());
  client.negotiate();
  EXPECT_THAT(other.error("query-kvm"), StartsWith("CommandNotFound"));
  const Json event = {{"event", "STOP"}};
  other.session().send_event(event);
  client.session().send_event(event);
  EXPECT_THAT(other.take_messages(), SizeIs(0));
  EXPECT_THAT(client.take_messages(), ElementsAre(event));
}

TEST(QmpOrder, AnswersInOrderWhenACommandTakesTime) {
  const auto loop = EventLoop::create().value();
  vmm::FakeMachine machine;
  std::function<void(Result<void>)> finish;
  Hooks hooks;
  hooks.dump = [&](const DumpRequest&, auto progress, auto done) {
    progress(5, 10);
    finish = std::move(done);
  };
  Context context(*loop, machine, hooks);
  ScriptedQmp client(context), other(context);
  client.negotiate();
  other.negotiate();

  const auto got = client.send(
      R"({"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:c"},"id":1})"
      R"({"execute":"query-kvm","id":2})");
  EXPECT_THAT(got, SizeIs(0)) << "the second command must wait for the first";
  EXPECT_TRUE(client.session().has_work());
  // Others are served, but cannot disturb.
  EXPECT_EQ(other.value("query-dump"),
            Json({{"status", "active"}, {"completed", 5}, {"total", 10}}));
  EXPECT_THAT(other.error("cont"), HasSubstr("dump in process"));
  EXPECT_THAT(other.error("stop"), HasSubstr("dump in process"));
  EXPECT_EQ(other.value("query-status").at("running"), false);

  finish({});
  loop->stop();
  loop->run();
  const auto answers = client.take_messages();
  ASSERT_THAT(answers, SizeIs(2));
  EXPECT_EQ(answers[0].at("id"), 1);
  EXPECT_EQ(answers[1].at("id"), 2);
  EXPECT_EQ(other.value("query-status").at("running"), true);
}

TEST(QmpOrder, ForgetsTheAnswerOfAClientThatLeft) {
  const auto loop = EventLoop::create().value();
  vmm::FakeMachine machine;
  std::function<void(Result<void>)> finish;
  Hooks hooks;
  hooks.dump = [&](const DumpRequest&, auto, auto done) { finish = std::move(done); };
  Context context(*loop, machine, hooks);
  auto client = std::make_unique<ScriptedQmp>(context);
  client->negotiate();
  client->send(
      R"({"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:c"}})");
  client.reset();
  finish(fail("no room"));
  loop->stop();
  loop->run();
  EXPECT_EQ(context.dump_state().status, DumpState::Status::kFailed);
  EXPECT_EQ(context.dump_state().error, "no room");
}

}  // namespace
}  // namespace wick::control
