// The registers and the memory of a machine, and the control of its vCPUs for a debugger.
//
// Thread rule: the main loop's thread. References that the functions return, such as memory(), are
// valid only until the next reset of the machine. The registers of a vCPU can be read and written
// only while it is stopped; otherwise the calls fail with EBUSY.
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

// A segment register with its hidden part (Intel SDM 3, 3.4.3). `attributes` are bits 8 to 23 of a
// descriptor's second 32-bit word; the limit's bits in between (16 to 19) are zero.
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
  uint64_t instruction = 0, operand = 0;  // pointers of the last x87 instruction
  uint32_t mxcsr = 0;
  std::array<std::array<std::byte, 16>, 16> xmm{};
  std::array<std::array<std::byte, 16>, 16> ymm_high{};  // upper halves of YMM; zero without AVX
};

// Why a vCPU has stopped for the debugger.
struct DebugStop {
  enum class Kind { kBreakpoint, kHardware, kSingleStep };
  uint32_t cpu = 0;
  Kind kind = Kind::kBreakpoint;  // kBreakpoint: an INT3
  uint64_t address = 0;           // linear: of the INT3, or of the next instruction (other kinds)
  uint64_t dr6 = 0;               // kHardware: bits 0 to 3 name the breakpoints that were hit
};

// A breakpoint that the host sets in the debug registers of all vCPUs (Intel SDM 3, 18.2).
struct HardwareBreakpoint {
  enum class Kind : uint8_t { kExecute = 0, kWrite = 1, kAccess = 3 };  // as in DR7's R/W field
  uint64_t address = 0;  // linear, aligned to `length_bytes`
  uint8_t length_bytes = 1;
  Kind kind = Kind::kExecute;
};

// What a vCPU does when a debugger resumes the machine: it stays stopped, executes one
// instruction, or runs.
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
  // Translates a linear address with the vCPU's page tables; nullopt: it is not mapped, or the vCPU
  // is running.
  virtual std::optional<GuestAddress> translate(uint32_t cpu, uint64_t linear) const = 0;

  // What the guest has written to the fw_cfg file etc/vmcoreinfo; empty: nothing.
  virtual std::vector<std::byte> vmcoreinfo() const { return {}; }

  // -- For a debugger. Other clients may pause and resume the machine at the same time. --

  // From now on INT3, hardware breakpoints and steps stop the machine (RunState::kDebug). `on_stop`
  // is called for each such stop when all vCPUs have stopped. An empty function detaches the
  // debugger; the guest then handles its INT3 itself again. The machine must be paused (EBUSY).
  virtual Result<void> attach_debugger(std::function<void(const DebugStop&)> on_stop) = 0;
  virtual Result<void> set_hardware_breakpoints(std::span<const HardwareBreakpoint> wanted) = 0;
  // Resumes the machine; `cpus` has one entry per vCPU. kStep executes one instruction with
  // interrupts masked, and then stops the machine again.
  virtual Result<void> resume_cpus(std::span<const CpuRun> cpus) = 0;
  // Delivers the INT3 that stopped the vCPU to the guest, because the debugger did not set this
  // INT3.
  virtual Result<void> pass_breakpoint(uint32_t cpu) = 0;
};

}  // namespace wick::vmm
