// Handles the packets "q" and "Q", those of QEMU's gdb stub included.
#include <algorithm>

#include "base/log.h"
#include "debug/gdb_session.h"

namespace wick::debug {

namespace {

// The step flags of QEMU's stub: a step executes one instruction, with interrupts masked. The
// clocks run on, so QEMU's flag NOTIMER is not offered.
constexpr uint64_t kStepEnable = 1;
constexpr uint64_t kStepNoInterrupts = 2;
constexpr uint64_t kStepFlags = kStepEnable | kStepNoInterrupts;

bool has_feature(std::string_view list, std::string_view wanted) {
  while (!list.empty()) {
    const size_t end = std::min(list.find(';'), list.size());
    if (list.substr(0, end) == wanted) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

}  // namespace

void GdbSession::handle_query(std::string_view query) {
  if (handle_thread_query(query) || handle_qemu_query(query)) return;
  if (query == "Supported") return answer_supported("");
  if (take_prefix(query, "Supported:")) return answer_supported(query);
  if (take_prefix(query, "Xfer:features:read:target.xml:")) return answer_description(query);
  if (query.starts_with("Xfer:features:read:")) return answer("E00");  // there is no such annex
  if (query == "Attached" || query.starts_with("Attached:")) return answer("1");
  if (take_prefix(query, "Rcmd,")) return run_monitor(query);
  answer("");
}

void GdbSession::answer_supported(std::string_view features) {
  multiprocess_ = has_feature(features, "multiprocess+");
  software_reason_ = has_feature(features, "swbreak+");
  hardware_reason_ = has_feature(features, "hwbreak+");
  answer(
      fmt::format("PacketSize={:x};qXfer:features:read+;QStartNoAckMode+;swbreak+;hwbreak+;"
                  "vContSupported+;multiprocess+",
                  kPacketBytes));
}

// `range` is "OFFSET,LENGTH".
void GdbSession::answer_description(std::string_view range) {
  constexpr size_t kMaxBytes = kPacketBytes / 2;  // because each byte may need an escape
  const std::string_view all = register_set_.description();
  const auto offset = take_hex(range);
  const auto length = offset && take_prefix(range, ",") ? take_hex(range) : std::nullopt;
  if (!length || *offset > all.size()) return answer_error(EINVAL);
  const std::string_view left = all.substr(*offset);
  const size_t part = static_cast<size_t>(std::min<uint64_t>(*length, kMaxBytes));
  if (part < left.size()) return answer("m" + std::string(left.substr(0, part)));
  answer("l" + std::string(left));
}

bool GdbSession::handle_thread_query(std::string_view query) {
  if (query == "C") {
    answer("QC" + thread_name(current_));
    return true;
  }
  if (query == "fThreadInfo" || query == "sThreadInfo") {
    if (query == "fThreadInfo") next_thread_ = 0;
    std::string list;
    for (; next_thread_ < inspector_.cpu_count() && list.size() < kPacketBytes / 2; ++next_thread_)
      list += (list.empty() ? "m" : ",") + thread_name(next_thread_);
    answer(list.empty() ? "l" : list);
    return true;
  }
  if (!take_prefix(query, "ThreadExtraInfo,")) return false;
  const auto id = parse_thread(query);
  if (!id || id->all) {
    answer_error(EINVAL);
  } else {
    // The text is QEMU's, with its space after "halted".
    const char* const state = inspector_.halted(id->cpu) ? "halted " : "running";
    answer(to_hex(fmt::format("CPU#{} [{}]", id->cpu, state)));
  }
  return true;
}

bool GdbSession::handle_qemu_query(std::string_view query) {
  if (!take_prefix(query, "qemu.")) return false;
  if (query == "Supported") {
    answer("sstepbits;sstep;PhyMemMode");
  } else if (query == "sstepbits") {
    answer(fmt::format("ENABLE={:x},NOIRQ={:x}", kStepEnable, kStepNoInterrupts));
  } else if (query == "sstep") {
    answer(fmt::format("0x{:x}", step_flags_));
  } else if (take_prefix(query, "sstep=")) {
    set_step_flags(query);
  } else if (query == "PhyMemMode") {
    answer(memory_.physical() ? "1" : "0");
  } else {
    answer("");
  }
  return true;
}

void GdbSession::set_step_flags(std::string_view text) {
  const auto flags = take_hex(text);
  if (!flags || (*flags & ~kStepFlags) != 0) return answer_error(EINVAL);
  // The flags are kept and reported, but have no effect: interrupts are always masked, because
  // otherwise a step would often end in an interrupt handler.
  step_flags_ = *flags;
  answer("OK");
}

void GdbSession::handle_set(std::string_view what) {
  if (what == "StartNoAckMode") {
    answer("OK");
    acknowledge_ = false;
    return;
  }
  if (take_prefix(what, "qemu.sstep:") || take_prefix(what, "qemu.sstep="))
    return set_step_flags(what);
  if (take_prefix(what, "qemu.PhyMemMode:")) {
    const auto on = take_hex(what);
    if (!on) return answer_error(EINVAL);
    memory_.set_physical(*on != 0);
    return answer("OK");
  }
  answer("");
}

void GdbSession::run_monitor(std::string_view hex) {
  const auto line = from_hex(hex);
  if (!line) return answer_error(EINVAL);
  if (!monitor_) return answer("");
  monitor_busy_ = true;
  monitor_(*line, [this, number = ++monitor_lines_,
                   alive = std::weak_ptr(alive_)](const std::string& text) {
    if (!alive.expired()) answer_monitor(number, text);
  });
}

void GdbSession::answer_monitor(uint64_t number, const std::string& text) {
  constexpr size_t kTextBytes = (kPacketBytes - 8) / 2;
  if (!monitor_busy_ || number != monitor_lines_) return;  // this line was answered before
  monitor_busy_ = false;
  if (stage_ != Stage::kAttached) return;
  for (size_t at = 0; at < text.size(); at += kTextBytes)
    answer("O" + to_hex(std::string_view(text).substr(at, kTextBytes)));
  answer("OK");
  serve();
}

}  // namespace wick::debug
