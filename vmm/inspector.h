// The registers and the memory of a machine, and the control of its vCPUs for a debugger.
//
// Thread rule: on the main loop's thread, in a call that holds no reference over a reset of the
// machine. The registers of a vCPU can be read and written only while it is stopped; otherwise
// the calls fail with EBUSY.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::vmm {

// A segment register with its hidden part (Intel SDM 3, 3.4.3). `attributes` has the format of
// the second word of a descriptor, without its base and limit: bits 8 to 23.
struct SegmentRegister {
  uint64_t base = 0;
  uint32_t limit = 0;  // in bytes
  uint16_t selector = 0;
  uint32_t attributes = 0;
  bool usable = true;
};

struct TableRegister {
  uint64_t base = 0;
  uint16_t limit = 0;
};

struct CpuRegisters {
  // In the order of their numbers in instructions: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8...
  std::array<uint64_t, 16> general{};
  uint64_t rip = 0;
  uint64_t rflags = 0;
  SegmentRegister cs, ss, ds, es, fs, gs, ldt, tr;
  TableRegister gdt, idt;
  uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
  uint64_t efer = 0;
  uint64_t apic_base = 0;
  std::array<uint64_t, 4> dr{};
  uint64_t dr6 = 0, dr7 = 0;
};

// The x87, SSE and AVX registers (Intel SDM 1, 8 to 14).
struct FpuRegisters {
  std::array<std::array<std::byte, 10>, 8> st{};  // ST(0) first
  uint16_t control = 0, status = 0;
  uint8_t tag = 0;  // abridged: a bit for each physical register that is not empty (FXSAVE)
  uint16_t opcode = 0;
  uint64_t instruction = 0, operand = 0;  // the last instruction's pointers
  uint32_t mxcsr = 0;
  std::array<std::array<std::byte, 16>, 16> xmm{};
  std::array<std::array<std::byte, 16>, 16> ymm_high{};  // zero without AVX
};

// Why the machine stopped by itself.
struct DebugStop {
  enum class Kind { kBreakpoint, kHardware, kSingleStep };
  uint32_t cpu = 0;
  Kind kind = Kind::kBreakpoint;  // kBreakpoint: an INT3, whose address is `address`
  uint64_t address = 0;           // linear, of the instruction that stopped or comes next
  uint64_t dr6 = 0;               // kHardware: bits 0 to 3 name the breakpoints that were hit
};

// The debug registers of a vCPU as the host sets them (Intel SDM 3, 18.2).
struct HardwareBreakpoint {
  enum class Kind : uint8_t { kExecute = 0, kWrite = 1, kAccess = 3 };  // as in DR7's R/W field
  uint64_t address = 0;  // linear, aligned to its length
  uint8_t length_bytes = 1;
  Kind kind = Kind::kExecute;
};

// How each vCPU goes on after a debug stop.
enum class CpuRun : uint8_t { kStay, kStep, kContinue };

class Inspector {
 public:
  virtual ~Inspector() = default;

  virtual uint32_t cpu_count() const = 0;
  // The host's thread that runs the vCPU.
  virtual pid_t thread_id(uint32_t cpu) const = 0;
  virtual bool halted(uint32_t cpu) const = 0;

  virtual Result<CpuRegisters> registers(uint32_t cpu) const = 0;
  virtual Result<void> set_registers(uint32_t cpu, const CpuRegisters& registers) = 0;
  virtual Result<FpuRegisters> fpu(uint32_t cpu) const = 0;
  virtual Result<void> set_fpu(uint32_t cpu, const FpuRegisters& registers) = 0;
  virtual bool has_avx() const = 0;
  virtual Result<uint64_t> read_msr(uint32_t cpu, uint32_t index) const = 0;

  virtual const GuestMemory& memory() const = 0;
  // The physical address behind a linear one by the vCPU's page tables; nullopt: not mapped.
  virtual std::optional<GuestAddress> translate(uint32_t cpu, uint64_t linear) const = 0;

  // What the guest has written to the fw_cfg file etc/vmcoreinfo; empty: there is none.
  virtual std::vector<std::byte> vmcoreinfo() const { return {}; }

  // -- For a debugger. Any other pause, and resume(), is allowed at the same time. --

  // Makes INT3, the hardware breakpoints (at most four) and steps stop the machine, with
  // RunState::kDebug; `on_stop` is then called once all vCPUs have stopped. An empty function
  // ends all debugging: guests get their INT3 again.
  virtual Result<void> attach_debugger(std::function<void(const DebugStop&)> on_stop) = 0;
  virtual Result<void> set_hardware_breakpoints(std::span<const HardwareBreakpoint> wanted) = 0;
  // Resumes the vCPUs that are not kStay, one entry per vCPU. A step executes one instruction,
  // with interrupts masked, and stops the machine.
  virtual Result<void> resume_cpus(std::span<const CpuRun> cpus) = 0;
  // Makes the vCPU take the INT3 that stopped it as the guest's own.
  virtual Result<void> pass_breakpoint(uint32_t cpu) = 0;
};

}  // namespace wick::vmm
