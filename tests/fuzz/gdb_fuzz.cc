// A gdb client that sends anything, to a machine that stops, pauses, resets and ends at any
// moment. Each answer is a packet of bounded length; once the client is gone, the machine is not
// debugged any more, and its memory is as it was unless the client wrote to it.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "debug/gdb_session.h"
#include "tests/fakes/fake_machine.h"
#include "tests/fuzz/harness.h"

namespace {

using wick::debug::frame_packet;
using wick::debug::GdbSession;
using wick::debug::PacketReader;
using wick::fuzz::require;
using wick::vmm::FakeMachine;
using wick::vmm::MachineEvent;
using wick::vmm::RunState;

class Bench {
 public:
  Bench() {
    machine_.pages_ = {{0, 0}, {0x1000, 0x1000}, {0x2000, 0x1000}, {0xffff'f000, 0x3000}};
    const auto code = machine_.memory().slice({0}, kCodeBytes).value();
    std::ranges::fill(code, std::byte{0x90});
    GdbSession::Client calls;
    calls.send = [this](std::string_view bytes) { check(bytes); };
    calls.hold = [](bool) {};
    calls.close = [] {};
    session_ = std::make_unique<GdbSession>(machine_, std::move(calls),
                                            [this](std::string line, auto answer) {
                                              if (line.starts_with("later")) {
                                                answer_ = std::move(answer);
                                              } else {
                                                answer(line);
                                              }
                                            });
  }

  void step(uint8_t action, std::string_view data) {
    const uint8_t value = data.empty() ? 0 : static_cast<uint8_t>(data[0]);
    switch (action % 10) {
      case 0:
        return session_->receive(data);
      case 1:
        return stop(value, data);
      case 2:
        return publish(value);
      case 3:
        machine_.on_pause_ = machine_.on_pause_ ? nullptr : [] {};
        return machine_.finish_pause();
      case 4:
        return answer_ ? std::exchange(answer_, {})("late") : void();
      case 5:
        return machine_.resume();
      case 6:
        machine_.pages_[0x1000] = (value % 4) * 0x1000;
        return;
      default:
        // gdb's packets are easier to find within a frame.
        return session_->receive(frame_packet(data));
    }
  }

  void finish(bool wrote) {
    machine_.on_pause_ = nullptr;
    machine_.finish_pause();
    bool left = false;
    session_->leave([&] { left = true; });
    require(left);
    session_.reset();
    if (answer_) answer_("too late");
    // A client that kills the machine leaves it as it is.
    const auto killed = [](const std::string& call) { return call.starts_with("end "); };
    if (ended_ || std::ranges::any_of(machine_.log_, killed)) return;
    require(!machine_.on_stop_);
    require(machine_.breakpoints_.empty());
    if (wrote) return;
    const auto code = machine_.memory().slice({0}, kCodeBytes).value();
    require(std::ranges::all_of(code, [](std::byte b) { return b == std::byte{0x90}; }));
  }

 private:
  static constexpr size_t kCodeBytes = 0x4000;

  void check(std::string_view bytes) {
    require(bytes.size() <= 2 * wick::debug::kPacketBytes);
    if (bytes == "+" || bytes == "-") return;
    PacketReader reader;
    reader.feed(bytes);
    const auto item = reader.next();
    require(item && item->kind == PacketReader::Item::Kind::kPacket);
    require(!reader.next());
  }

  void stop(uint8_t how, std::string_view data) {
    if (machine_.state_ != RunState::kRunning) return;
    using Kind = wick::vmm::DebugStop::Kind;
    uint16_t address = 0;
    if (data.size() >= 3) std::memcpy(&address, data.data() + 1, sizeof(address));
    const uint32_t cpu = how & 1;
    machine_.registers_[cpu].rip = address;
    machine_.stop_for_debugger({.cpu = cpu,
                                .kind = static_cast<Kind>((how >> 1) % 3),
                                .address = address,
                                .dr6 = static_cast<uint64_t>(how >> 3)});
  }

  void publish(uint8_t value) {
    constexpr MachineEvent::Kind kKinds[] = {MachineEvent::Kind::kStop, MachineEvent::Kind::kResume,
                                             MachineEvent::Kind::kReset,
                                             MachineEvent::Kind::kShutdown};
    const auto kind = kKinds[value % 4];
    if (kind == MachineEvent::Kind::kStop) return machine_.pause(RunState::kPaused, {});
    if (kind == MachineEvent::Kind::kReset) return machine_.reset();
    if (kind == MachineEvent::Kind::kShutdown) ended_ = true;
    machine_.publish({.kind = kind, .reason = value & 4 ? "guest-panic" : "guest-shutdown"});
  }

  FakeMachine machine_;
  std::function<void(std::string)> answer_;
  bool ended_ = false;
  std::unique_ptr<GdbSession> session_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  spdlog::set_level(spdlog::level::off);
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  Bench bench;
  // Lines: an action and its bytes.
  std::string_view left = all;
  while (!left.empty()) {
    const size_t end = std::min(left.find('\n'), left.size());
    const std::string_view line = left.substr(0, end);
    if (!line.empty()) bench.step(static_cast<uint8_t>(line[0]), line.substr(1));
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  // '}' may hide an M.
  bench.finish(all.find_first_of("MX}") != std::string_view::npos);
  return 0;
}
