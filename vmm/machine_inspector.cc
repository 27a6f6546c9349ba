#include "vmm/machine_inspector.h"

#include "vmm/cpu_state.h"

namespace wick::vmm {

void MachineInspector::set_board(Board* board) {
  board_ = board;
  if (board_ == nullptr || !debugged()) return;
  for (const auto& vcpu : board_->vcpus())
    (void)vcpu->set_debug({.enabled = true, .breakpoints = breakpoints_});
}

Result<Vcpu*> MachineInspector::stopped(uint32_t cpu) const {
  if (cpu >= cpu_count()) return fail("vCPU {}: the machine has {}", cpu, cpu_count());
  if (!gate_.is_stopped(cpu)) return fail_errno(EBUSY, "vCPU {} is running", cpu);
  return board_->vcpus()[cpu].get();
}

uint32_t MachineInspector::cpu_count() const {
  return board_ == nullptr ? 0 : static_cast<uint32_t>(board_->vcpus().size());
}

pid_t MachineInspector::thread_id(uint32_t cpu) const {
  return cpu < cpu_count() ? board_->vcpus()[cpu]->thread_id() : 0;
}

bool MachineInspector::halted(uint32_t cpu) const {
  return cpu < cpu_count() && gate_.is_stopped(cpu) && board_->vcpus()[cpu]->halted();
}

Result<CpuRegisters> MachineInspector::registers(uint32_t cpu) const {
  return read_registers(TRY(stopped(cpu))->fd());
}

Result<void> MachineInspector::set_registers(uint32_t cpu, const CpuRegisters& registers) {
  return write_registers(TRY(stopped(cpu))->fd(), registers);
}

Result<FpuRegisters> MachineInspector::fpu(uint32_t cpu) const {
  return read_fpu(TRY(stopped(cpu))->fd());
}

Result<void> MachineInspector::set_fpu(uint32_t cpu, const FpuRegisters& registers) {
  return write_fpu(TRY(stopped(cpu))->fd(), registers);
}

bool MachineInspector::has_avx() const { return __builtin_cpu_supports("avx") != 0; }

Result<uint64_t> MachineInspector::read_msr(uint32_t cpu, uint32_t index) const {
  return vmm::read_msr(TRY(stopped(cpu))->fd(), index);
}

std::optional<GuestAddress> MachineInspector::translate(uint32_t cpu, uint64_t linear) const {
  const auto vcpu = stopped(cpu);
  return vcpu ? (*vcpu)->translate(linear) : std::nullopt;
}

Result<void> MachineInspector::attach_debugger(std::function<void(const DebugStop&)> on_stop) {
  if (!gate_.all_stopped()) return fail_errno(EBUSY, "the machine must be paused for a debugger");
  on_stop_ = std::move(on_stop);
  if (!on_stop_) breakpoints_.clear();
  return set_debug();
}

Result<void> MachineInspector::set_hardware_breakpoints(
    std::span<const HardwareBreakpoint> wanted) {
  constexpr size_t kMaxBreakpoints = 4;  // DR0 to DR3
  if (wanted.size() > kMaxBreakpoints)
    return fail("{} hardware breakpoints: a CPU has {}", wanted.size(), kMaxBreakpoints);
  breakpoints_.assign(wanted.begin(), wanted.end());
  return set_debug();
}

Result<void> MachineInspector::set_debug() {
  for (uint32_t cpu = 0; cpu < cpu_count(); ++cpu) {
    Vcpu& vcpu = *TRY(stopped(cpu));
    TRY(vcpu.set_debug({.enabled = debugged(), .breakpoints = breakpoints_}));
  }
  return {};
}

Result<void> MachineInspector::resume_cpus(std::span<const CpuRun> cpus) {
  for (uint32_t cpu = 0; cpu < std::min<size_t>(cpu_count(), cpus.size()); ++cpu) {
    if (cpus[cpu] == CpuRun::kStay) continue;
    Vcpu& vcpu = *TRY(stopped(cpu));
    TRY(vcpu.set_debug(
        {.enabled = debugged(), .step = cpus[cpu] == CpuRun::kStep, .breakpoints = breakpoints_}));
  }
  resume_(cpus);
  return {};
}

Result<void> MachineInspector::pass_breakpoint(uint32_t cpu) {
  return TRY(stopped(cpu))
      ->set_debug({.enabled = debugged(), .pass_breakpoint = true, .breakpoints = breakpoints_});
}

}  // namespace wick::vmm
