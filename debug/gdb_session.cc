#include "debug/gdb_session.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"

namespace wick::debug {

using vmm::CpuRun;
using vmm::MachineEvent;

GdbSession::GdbSession(vmm::Machine& machine, Client client, MonitorFunction monitor)
    : machine_(machine),
      inspector_(machine.inspector()),
      client_(std::move(client)),
      monitor_(std::move(monitor)),
      register_set_(inspector_.has_avx()),
      run_(machine, [this](const GdbStop& stop) { on_stop(stop); }),
      memory_(inspector_, run_.software()) {}

GdbSession::~GdbSession() {
  events_ = {};
  detach(run_.was_running());
}

void GdbSession::leave(std::function<void()> done) {
  const auto finish = [this, done = std::move(done)] {
    detach(run_.was_running());
    done();
  };
  waits_for_stop_ = false;
  // Asks the machine, not run_: another client may have resumed the machine.
  if (stage_ == Stage::kAttached && machine_.state() == vmm::RunState::kRunning)
    run_.interrupt(resumed_, finish);
  else
    finish();
}

void GdbSession::receive(std::string_view bytes) {
  if (stage_ == Stage::kEnded) return;
  reader_.feed(bytes);
  serve();
}

bool GdbSession::stalled() const {
  return stage_ == Stage::kAttaching || monitor_busy_ || run_.interrupting();
}

void GdbSession::serve() {
  if (serving_) return;  // handle() has led to this call; the loop below continues
  serving_ = true;
  while (!stalled() && stage_ != Stage::kEnded) {
    auto item = reader_.next();
    if (!item) break;
    handle(*std::move(item));
  }
  serving_ = false;
  const bool hold = stalled() && stage_ != Stage::kEnded;
  if (std::exchange(held_, hold) != hold) client_.hold(hold);
}

void GdbSession::handle(PacketReader::Item item) {
  using Kind = PacketReader::Item::Kind;
  if (item.kind == Kind::kRepeat) {
    if (acknowledge_ && !last_frame_.empty()) client_.send(last_frame_);
    return;
  }
  if (item.kind == Kind::kInterrupt) return handle_interrupt();
  // Without acknowledgments the checksum is ignored: the transport is reliable, and a packet that
  // is dropped would never be sent again.
  if (acknowledge_) client_.send(item.kind == Kind::kPacket ? "+" : "-");
  if (acknowledge_ && item.kind == Kind::kDamaged) return;
  if (stage_ == Stage::kAttached) return handle_packet(item.payload);
  first_packet_ = std::move(item.payload);
  attach();
}

void GdbSession::attach() {
  stage_ = Stage::kAttaching;
  events_ = machine_.subscribe([this](const MachineEvent& event) { on_event(event); });
  run_.attach([this](const Result<void>& begun) {
    if (begun) return attached();
    spdlog::error("gdb: cannot debug the machine: {}", begun.error().message());
    detach(run_.was_running());
    client_.close();
  });
}

void GdbSession::attached() {
  stage_ = Stage::kAttached;
  spdlog::info("gdb: a debugger is attached, and the machine is stopped");
  if (const auto packet = std::exchange(first_packet_, std::nullopt)) handle_packet(*packet);
  serve();
}

void GdbSession::detach(bool resume) {
  const Stage before = std::exchange(stage_, Stage::kEnded);
  if (before != Stage::kAttached && before != Stage::kAttaching) return;
  run_.detach(resume);
  spdlog::info("gdb: the debugger is detached");
}

void GdbSession::answer(std::string_view payload) {
  last_frame_ = frame_packet(payload);
  client_.send(last_frame_);
}

void GdbSession::answer_error(int code) { answer(fmt::format("E{:02}", code % 100)); }

void GdbSession::answer_result(const Result<void>& result) {
  if (result) return answer("OK");
  spdlog::debug("gdb: {}", result.error().message());
  answer_error(result.error().code != 0 ? result.error().code : EINVAL);
}

void GdbSession::handle_packet(std::string_view packet) {
  const char command = packet.empty() ? '\0' : packet.front();
  const std::string_view rest = packet.substr(packet.empty() ? 0 : 1);
  switch (command) {
    case '!':
      return answer("OK");
    case '?':
      // If the machine runs, it is stopped, and the stop is the answer.
      return run_.running() ? handle_interrupt() : answer(stop_reply(last_stop_));
    case 'g':
      return read_all_registers();
    case 'G':
      return write_all_registers(rest);
    case 'p':
      return read_one_register(rest);
    case 'P':
      return write_one_register(rest);
    case 'm':
      return read_memory(rest);
    case 'M':
    case 'X':
      return write_memory(rest, command == 'X');
    case 'Z':
    case 'z':
      return handle_breakpoint(command == 'Z', rest);
    case 'c':
    case 'C':
    case 's':
    case 'S':
      return resume_old(command, rest);
    case 'v':
      return handle_v(packet);
    case 'H':
      return set_thread(rest);
    case 'T': {
      std::string_view thread = rest;
      const auto id = parse_thread(thread);
      return id && !id->all ? answer("OK") : answer_error(EINVAL);
    }
    case 'q':
      return handle_query(rest);
    case 'Q':
      return handle_set(rest);
    case 'D':
      return handle_detach();
    case 'k':
      return handle_kill();
    case 'R':
      return machine_.reset();  // this packet has no answer
    default:
      return answer("");
  }
}

void GdbSession::handle_interrupt() {
  if (stage_ != Stage::kAttached || !run_.running()) return;
  waits_for_stop_ = true;
  run_.interrupt(resumed_, [this] { serve(); });
}

void GdbSession::handle_detach() {
  const auto finish = [this] {
    detach(true);
    answer("OK");
    client_.close();
  };
  if (machine_.state() != vmm::RunState::kRunning) return finish();
  waits_for_stop_ = false;
  run_.interrupt(resumed_, finish);
}

void GdbSession::handle_kill() {
  spdlog::info("gdb: the debugger ends the machine");
  machine_.end(vmm::Ending::kQuit);
  stage_ = Stage::kEnded;
  client_.close();
}

void GdbSession::handle_v(std::string_view packet) {
  if (packet == "vCont?") return answer("vCont;c;C;s;S");
  if (take_prefix(packet, "vCont")) return resume_many(packet);
  if (take_prefix(packet, "vKill")) {
    answer("OK");
    return handle_kill();
  }
  answer("");
}

void GdbSession::on_stop(const GdbStop& stop) {
  last_stop_ = stop;
  current_ = resumed_ = stop.cpu;
  if (std::exchange(waits_for_stop_, false)) answer(stop_reply(stop));
}

std::string GdbSession::stop_reply(const GdbStop& stop) const {
  using Reason = GdbStop::Reason;
  std::string reply =
      fmt::format("T{:02x}thread:{};", static_cast<unsigned>(stop.signal), thread_name(stop.cpu));
  if (stop.reason == Reason::kSoftware && software_reason_) reply += "swbreak:;";
  if (stop.reason == Reason::kHardware && hardware_reason_) reply += "hwbreak:;";
  if (stop.reason == Reason::kWatch) reply += fmt::format("watch:{:x};", stop.address);
  if (stop.reason == Reason::kAccess) reply += fmt::format("awatch:{:x};", stop.address);
  return reply;
}

void GdbSession::on_event(const MachineEvent& event) {
  if (stage_ == Stage::kAttaching && event.kind == MachineEvent::Kind::kReset) {
    spdlog::warn("gdb: the machine was reset while a debugger attached; attach again");
    detach(run_.was_running());
    return client_.close();
  }
  if (stage_ == Stage::kAttaching && event.kind == MachineEvent::Kind::kShutdown)
    return on_shutdown(event);
  if (stage_ != Stage::kAttached) return;
  if (event.kind == MachineEvent::Kind::kStop) run_.on_machine_stopped(resumed_);
  if (event.kind == MachineEvent::Kind::kReset) run_.on_machine_reset();
  if (event.kind == MachineEvent::Kind::kShutdown) on_shutdown(event);
}

// Ends the session without detaching: the machine has ended, so no breakpoints need be removed.
void GdbSession::on_shutdown(const MachineEvent& event) {
  stage_ = Stage::kEnded;
  if (std::exchange(waits_for_stop_, false)) {
    std::string reply = "W00";
    if (event.reason == "guest-panic" || event.reason == "host-error")
      reply = fmt::format("X{:02x}", static_cast<unsigned>(GdbSignal::kAbort));
    if (event.reason == "host-signal")
      reply = fmt::format("X{:02x}", static_cast<unsigned>(GdbSignal::kTerminate));
    answer(reply + (multiprocess_ ? ";process:1" : ""));
  }
  if (client_.flush) client_.flush();
  client_.close();
}

}  // namespace wick::debug
