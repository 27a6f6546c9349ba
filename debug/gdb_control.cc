// Handles the packets that access registers and memory, set breakpoints and resume vCPUs.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "debug/gdb_session.h"

namespace wick::debug {

using vmm::CpuRun;

namespace {

bool is_fpu(const GdbRegister& which) {
  using Group = GdbRegister::Group;
  return which.group == Group::kX87 || which.group == Group::kX87Control ||
         which.group == Group::kXmm || which.group == Group::kMxcsr ||
         which.group == Group::kYmmHigh;
}

}  // namespace

Result<GdbRegisters> GdbSession::load_registers(uint32_t cpu) const {
  constexpr uint32_t kMsrKernelGsBase = 0xc000'0102;
  GdbRegisters loaded{.cpu = TRY(inspector_.registers(cpu)), .fpu = TRY(inspector_.fpu(cpu))};
  // A CPU without long mode does not have this MSR.
  loaded.kernel_gs_base = inspector_.read_msr(cpu, kMsrKernelGsBase).value_or(0);
  return loaded;
}

Result<void> GdbSession::write_registers(std::span<const GdbRegister> which,
                                         std::string_view values) {
  GdbRegisters registers = TRY(load_registers(current_));
  const auto read = [this](uint64_t address, std::span<std::byte> to) {
    return memory_.read_linear(current_, address, to);
  };
  bool changes_cpu = false;
  bool changes_fpu = false;
  for (const GdbRegister& it : which) {
    const std::string_view value = values.substr(0, it.size_bytes);
    values.remove_prefix(it.size_bytes);
    // The packet G has all registers, of which most are unchanged.
    if (read_register(registers, it) == value) continue;
    TRY(write_register(registers, it, value, read));
    (is_fpu(it) ? changes_fpu : changes_cpu) = true;
  }
  if (changes_cpu) TRY(inspector_.set_registers(current_, registers.cpu));
  if (changes_fpu) TRY(inspector_.set_fpu(current_, registers.fpu));
  return {};
}

void GdbSession::read_all_registers() {
  const auto registers = load_registers(current_);
  if (!registers) return answer_error(registers.error().code);
  std::string values;
  for (const GdbRegister& it : register_set_.registers()) values += read_register(*registers, it);
  answer(to_hex(values));
}

void GdbSession::read_one_register(std::string_view rest) {
  const auto number = take_hex(rest);
  if (!number || *number >= register_set_.registers().size()) return answer_error(EINVAL);
  const auto registers = load_registers(current_);
  if (!registers) return answer_error(registers.error().code);
  answer(to_hex(read_register(*registers, register_set_.registers()[*number])));
}

void GdbSession::write_all_registers(std::string_view hex) {
  const auto values = from_hex(hex);
  if (!values || values->size() != register_set_.size_bytes()) return answer_error(EINVAL);
  answer_result(write_registers(register_set_.registers(), *values));
}

void GdbSession::write_one_register(std::string_view rest) {
  const auto number = take_hex(rest);
  if (!number || *number >= register_set_.registers().size() || !take_prefix(rest, "="))
    return answer_error(EINVAL);
  const auto which = register_set_.registers().subspan(*number, 1);
  const auto value = from_hex(rest);
  if (!value || value->size() != which[0].size_bytes) return answer_error(EINVAL);
  answer_result(write_registers(which, *value));
}

void GdbSession::read_memory(std::string_view range) {
  constexpr size_t kMaxBytes = (kPacketBytes - 4) / 2;
  const auto address = take_hex(range);
  const auto size = address && take_prefix(range, ",") ? take_hex(range) : std::nullopt;
  if (!size) return answer_error(EINVAL);
  const auto wanted = static_cast<size_t>(std::min<uint64_t>(*size, kMaxBytes));
  const std::string bytes = memory_.read(current_, *address, wanted);
  if (bytes.empty() && wanted > 0) return answer_error(EFAULT);
  answer(to_hex(bytes));
}

void GdbSession::write_memory(std::string_view rest, bool binary) {
  const auto address = take_hex(rest);
  const auto size = address && take_prefix(rest, ",") ? take_hex(rest) : std::nullopt;
  if (!size || !take_prefix(rest, ":")) return answer_error(EINVAL);
  const auto bytes = binary ? std::optional(std::string(rest)) : from_hex(rest);
  if (!bytes || bytes->size() != *size) return answer_error(EINVAL);
  answer_result(memory_.write(current_, *address, *bytes));
}

void GdbSession::handle_breakpoint(bool insert, std::string_view rest) {
  using Kind = HardwareBreakpoints::Kind;
  const auto type = take_hex(rest);
  const auto address = type && take_prefix(rest, ",") ? take_hex(rest) : std::nullopt;
  const auto length = address && take_prefix(rest, ",") ? take_hex(rest) : std::nullopt;
  if (!length) return answer_error(EINVAL);
  if (*type == 0) return handle_software_breakpoint(insert, *address);
  HardwareBreakpoints::Wanted wanted{.address = *address, .length_bytes = *length};
  if (*type == 1) {
    wanted = {.kind = Kind::kExecute, .address = *address, .length_bytes = 1};
  } else if (*type == 2) {
    wanted.kind = Kind::kWrite;
  } else if (*type == 4) {
    wanted.kind = Kind::kAccess;
  } else {
    return answer("");  // type 3: the CPU cannot watch only reads; gdb then watches all accesses
  }
  answer_result(insert ? run_.hardware().insert(wanted) : run_.hardware().remove(wanted));
}

void GdbSession::handle_software_breakpoint(bool insert, uint64_t address) {
  if (!insert) {
    run_.software().remove(address);
    return answer("OK");
  }
  const auto inserted = run_.software().insert(current_, address);
  if (inserted) return answer("OK");
  // gdb 13 does not show the text of the error, newer versions do. So it is logged as well.
  warnings_.warn("gdb: {}", inserted.error().message());
  answer("E." + inserted.error().message());
}

std::string GdbSession::thread_name(uint32_t cpu) const {
  return multiprocess_ ? fmt::format("p01.{:02x}", cpu + 1) : fmt::format("{:02x}", cpu + 1);
}

// Parses THREAD or pPROCESS.THREAD. The thread 0 means any thread, -1 all threads.
std::optional<GdbSession::ThreadId> GdbSession::parse_thread(std::string_view& text) const {
  if (take_prefix(text, "p")) {
    if (take_prefix(text, "-1")) {
      if (take_prefix(text, ".") && !take_prefix(text, "-1")) return std::nullopt;
      return ThreadId{.all = true};
    }
    const auto process = take_hex(text);
    if (!process || *process > 1) return std::nullopt;
    if (!take_prefix(text, ".")) return ThreadId{.all = true};
  }
  if (take_prefix(text, "-1")) return ThreadId{.all = true};
  const auto thread = take_hex(text);
  if (!thread || *thread > inspector_.cpu_count()) return std::nullopt;
  if (*thread == 0) return ThreadId{.all = true};
  return ThreadId{.cpu = static_cast<uint32_t>(*thread - 1)};
}

void GdbSession::set_thread(std::string_view rest) {
  const char what = rest.empty() ? '\0' : rest.front();
  rest.remove_prefix(rest.empty() ? 0 : 1);
  const auto id = parse_thread(rest);
  if (!id || (what != 'g' && what != 'c')) return answer_error(EINVAL);
  if (!id->all) (what == 'g' ? current_ : resumed_) = id->cpu;
  answer("OK");
}

// Handles c [ADDRESS], C SIGNAL [;ADDRESS], s and S. The signal is ignored, because a guest has no
// signals.
void GdbSession::resume_old(char command, std::string_view rest) {
  const bool step = command == 's' || command == 'S';
  if (command == 'C' || command == 'S') {
    if (!take_hex(rest)) return answer_error(EINVAL);
    take_prefix(rest, ";");
  }
  if (!rest.empty()) {
    const auto address = take_hex(rest);
    if (!address) return answer_error(EINVAL);
    auto registers = inspector_.registers(resumed_);
    if (!registers) return answer_error(registers.error().code);
    registers->rip = *address;
    const auto set = inspector_.set_registers(resumed_, *registers);
    if (!set) return answer_result(set);
  }
  std::vector<CpuRun> actions(inspector_.cpu_count(), step ? CpuRun::kStay : CpuRun::kContinue);
  if (step) actions[resumed_] = CpuRun::kStep;
  resume(std::move(actions));
}

// Handles vCont. `text` is a list of ";ACTION[:THREAD]". Each thread gets the first action that
// matches the thread.
void GdbSession::resume_many(std::string_view text) {
  std::vector<CpuRun> actions(inspector_.cpu_count(), CpuRun::kStay);
  while (take_prefix(text, ";")) {
    const char what = text.empty() ? '\0' : text.front();
    text.remove_prefix(text.empty() ? 0 : 1);
    const bool step = what == 's' || what == 'S';
    if (!step && what != 'c' && what != 'C') return answer_error(EINVAL);
    if ((what == 'C' || what == 'S') && !take_hex(text)) return answer_error(EINVAL);
    ThreadId id{.all = true};
    if (take_prefix(text, ":")) {
      const auto given = parse_thread(text);
      if (!given) return answer_error(EINVAL);
      id = *given;
    }
    for (uint32_t cpu = 0; cpu < actions.size(); ++cpu) {
      if (actions[cpu] == CpuRun::kStay && (id.all || id.cpu == cpu)) {
        actions[cpu] = step ? CpuRun::kStep : CpuRun::kContinue;
        resumed_ = cpu;
      }
    }
  }
  if (!text.empty()) return answer_error(EINVAL);
  resume(std::move(actions));
}

void GdbSession::resume(std::vector<CpuRun> actions) {
  const auto stays = [](CpuRun how) { return how == CpuRun::kStay; };
  if (std::ranges::all_of(actions, stays)) return answer_error(EINVAL);
  // If a vCPU is stepped, a stop by Ctrl-C is reported for that vCPU.
  const auto stepped = std::ranges::find(actions, CpuRun::kStep);
  if (stepped != actions.end()) resumed_ = static_cast<uint32_t>(stepped - actions.begin());
  if (run_.running()) return answer_error(EBUSY);
  waits_for_stop_ = true;
  const auto resumed = run_.resume(std::move(actions));
  if (resumed) return;
  waits_for_stop_ = false;
  answer_result(resumed);
}

}  // namespace wick::debug
