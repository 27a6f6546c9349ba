// A gdb client without a gdb: sends packets to a session of a fake machine, and collects what it
// answers.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "debug/gdb_session.h"
#include "tests/fakes/fake_machine.h"

namespace wick::debug {

class GdbClient {
 public:
  explicit GdbClient(MonitorFunction monitor = {}, uint32_t cpus = 2) : machine_(cpus) {
    GdbSession::Client calls;
    calls.send = [this](std::string_view bytes) { sent_ += bytes; };
    calls.hold = [this](bool held) { held_ = held; };
    calls.close = [this] { closed_ = true; };
    session_ = std::make_unique<GdbSession>(machine_, std::move(calls), std::move(monitor));
  }

  // Sends a packet and returns all that comes back, without frames and acknowledgments; "|"
  // between packets.
  std::string ask(std::string_view payload) {
    session_->receive(frame_packet(payload));
    return answers();
  }
  std::string answers() {
    PacketReader reader;
    reader.feed(sent_);
    sent_.clear();
    std::string all;
    while (const auto item = reader.next()) {
      if (item->kind != PacketReader::Item::Kind::kPacket) continue;
      all += (all.empty() ? "" : "|") + item->payload;
    }
    return all;
  }
  void press_control_c() { session_->receive("\x03"); }

  void poke(uint64_t address, std::string_view bytes) {
    (void)machine_.memory().write_bytes({address}, std::as_bytes(std::span(bytes)));
  }
  std::string peek(uint64_t address, size_t size_bytes) {
    const auto bytes = machine_.memory().slice({address}, size_bytes).value();
    return to_hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  size_t calls(std::string_view name) const {
    return static_cast<size_t>(std::ranges::count(machine_.log_, name));
  }
  void stop(const vmm::DebugStop& stop) { machine_.stop_for_debugger(stop); }

  vmm::FakeMachine machine_;
  std::unique_ptr<GdbSession> session_;
  std::string sent_;
  bool held_ = false;
  bool closed_ = false;
};

}  // namespace wick::debug
