// A client of QMP and a user of the monitor, over a machine without a guest. Whatever comes in,
// each line that goes out is JSON, a session keeps little, and well-formed requests still work
// after it.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "control/monitor_session.h"
#include "control/qmp_session.h"
#include "tests/fakes/fake_machine.h"
#include "tests/fuzz/harness.h"

namespace {

using wick::fuzz::require;
namespace control = wick::control;
namespace vmm = wick::vmm;

void add_devices(vmm::FakeMachine& machine) {
  vmm::DiskInfo disk, cdrom;
  disk.id = "vda";
  disk.format = "qcow2";
  cdrom.id = "sr0";
  cdrom.media = vmm::DiskConfig::Media::kCdrom;
  machine.disks_ = {disk, cdrom};
  vmm::CardInfo& card = machine.cards_.emplace_back();
  card.id = "net0";
  card.kind = vmm::NetConfig::Kind::kUser;
  machine.consoles_ = {{"ttyS0", "null", false}};
  machine.registers_[0].cr0 = 0x80000001;
  machine.registers_[0].cr4 = 1 << 5;
}

// The first byte says in which pieces the rest comes.
void run_qmp(control::Context& context, size_t piece, std::string_view input) {
  std::string out;
  control::QmpSession session(context, {.send =
                                            [&](std::string_view text) {
                                              out += text;
                                              const auto line =
                                                  control::Json::parse(text, nullptr, false);
                                              require(text.ends_with("\r\n") && line.is_object());
                                            },
                                        .ready = {}});
  const auto feed = [&](std::string_view bytes) {
    session.receive(bytes);
    while (session.run_one()) {
    }
  };
  feed(R"({"execute":"qmp_capabilities"})");
  for (size_t at = 0; at < input.size(); at += piece) feed(input.substr(at, piece));
  if (session.finished() || session.has_work()) return;
  // The newline and the byte that is no JSON end whatever was open.
  out.clear();
  feed("\n\xff\n{\"execute\":\"query-kvm\",\"id\":\"last\"}");
  require(session.finished() || out.find("\"last\"") != std::string::npos);
}

void run_monitor(control::Context& context, size_t piece, std::string_view input) {
  std::string out;
  control::MonitorSession session(
      context, {.send = [&](std::string_view text) { out += text; }, .ready = {}});
  const auto feed = [&](std::string_view bytes) {
    session.receive(bytes);
    while (session.run_one()) {
    }
  };
  for (size_t at = 0; at < input.size(); at += piece) {
    out.clear();
    feed(input.substr(at, piece));
  }
  out.clear();
  feed("\ncpu 0\np 1+1\n");
  require(out.ends_with("0x2\r\n(wick) "));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  vmm::FakeMachine machine;
  add_devices(machine);
  control::Context context(wick::fuzz::loop(), machine, {});
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t piece = 1 + data[0] / 2 * 8;
  if (data[0] % 2 == 0)
    run_qmp(context, piece, input);
  else
    run_monitor(context, piece, input);
  return 0;
}
