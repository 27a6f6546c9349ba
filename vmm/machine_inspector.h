// The Inspector of a machine: the vCPUs and the memory of its current board.
//
// Thread rule: the main loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "vmm/board.h"
#include "vmm/cpu_gate.h"
#include "vmm/inspector.h"

namespace wick::vmm {

class MachineInspector final : public Inspector {
 public:
  // `resume` resumes the vCPUs; resume_cpus() calls it when the debug settings of the vCPUs are
  // done. `gate` must outlive the inspector.
  MachineInspector(const CpuGate& gate, std::function<void(std::span<const CpuRun>)> resume)
      : gate_(gate), resume_(std::move(resume)) {}

  // Sets the current board; nullptr: there is none. A debugger stays attached to the next board.
  void set_board(Board* board);
  bool debugged() const { return on_stop_ != nullptr; }
  void report(const DebugStop& stop) {
    if (on_stop_) on_stop_(stop);
  }

  uint32_t cpu_count() const override;
  pid_t thread_id(uint32_t cpu) const override;
  bool halted(uint32_t cpu) const override;
  Result<CpuRegisters> registers(uint32_t cpu) const override;
  Result<void> set_registers(uint32_t cpu, const CpuRegisters& registers) override;
  Result<FpuRegisters> fpu(uint32_t cpu) const override;
  Result<void> set_fpu(uint32_t cpu, const FpuRegisters& registers) override;
  bool has_avx() const override;
  Result<uint64_t> read_msr(uint32_t cpu, uint32_t index) const override;
  const GuestMemory& memory() const override { return board_->memory(); }
  std::optional<GuestAddress> translate(uint32_t cpu, uint64_t linear) const override;
  std::vector<std::byte> vmcoreinfo() const override { return board_->vmcoreinfo(); }
  Result<void> attach_debugger(std::function<void(const DebugStop&)> on_stop) override;
  Result<void> set_hardware_breakpoints(std::span<const HardwareBreakpoint> wanted) override;
  Result<void> resume_cpus(std::span<const CpuRun> cpus) override;
  Result<void> pass_breakpoint(uint32_t cpu) override;

 private:
  // Fails unless the vCPU exists and is stopped.
  Result<Vcpu*> stopped(uint32_t cpu) const;
  Result<void> set_debug();

  const CpuGate& gate_;
  const std::function<void(std::span<const CpuRun>)> resume_;
  Board* board_ = nullptr;
  std::function<void(const DebugStop&)> on_stop_;
  std::vector<HardwareBreakpoint> breakpoints_;
};

}  // namespace wick::vmm
