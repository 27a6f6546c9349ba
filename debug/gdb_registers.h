// The registers of a vCPU as gdb numbers them, and their description in XML.
//
// The numbers and features are gdb's own, so that a client that does not read the description finds
// the registers that it expects. The control registers, EFER and IA32_KERNEL_GS_BASE are in a
// feature of wick's own, with QEMU's names and types. The sizes of registers do not depend on the
// CPU's mode, because gdb cannot change them within a session.
//
// Thread rule: none; values and pure functions.
// Specification: Debugging with GDB, G.5.20 (i386 features); Intel SDM 1, 8.1 (x87); Intel SDM 3,
// chapters 2 and 3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vmm/inspector.h"

namespace wick::debug {

// The state of a vCPU that gdb shows.
struct GdbRegisters {
  vmm::CpuRegisters cpu;
  vmm::FpuRegisters fpu;
  uint64_t kernel_gs_base = 0;  // gdb cannot write this register
};

struct GdbRegister {
  // The part of GdbRegisters to which the register belongs. `index` counts within the group.
  enum class Group {
    kGeneral,
    kInstruction,
    kFlags,
    kSegment,     // selectors: cs, ss, ds, es, fs, gs
    kX87,         // st0 to st7
    kX87Control,  // fctrl, fstat, ftag, fiseg, fioff, foseg, fooff, fop
    kXmm,
    kMxcsr,
    kSegmentBase,  // fs_base, gs_base
    kKernelGsBase,
    kControl,  // cr0, cr2, cr3, cr4, cr8, efer
    kYmmHigh,
  };
  std::string name;
  size_t size_bytes = 0;
  const char* type = "";
  Group group = Group::kGeneral;
  size_t index = 0;
};

class GdbRegisterSet {
 public:
  explicit GdbRegisterSet(bool has_avx);

  // The registers in the order of gdb's numbers.
  std::span<const GdbRegister> registers() const { return registers_; }
  // The description for qXfer:features:read:target.xml.
  const std::string& description() const { return description_; }
  // The size of the values of all registers together.
  size_t size_bytes() const;

 private:
  void add(std::string name, size_t size_bytes, const char* type, GdbRegister::Group group,
           size_t index);
  void add_core();
  void add_sse();
  void add_system();
  void describe(std::string_view feature, const char* types, size_t first);

  std::vector<GdbRegister> registers_;
  std::string description_;
};

// Reads guest memory at a linear address; false if it is not mapped.
using ReadLinear = std::function<bool(uint64_t address, std::span<std::byte> to)>;

// Returns the value of a register: `which.size_bytes` bytes in little-endian order.
std::string read_register(const GdbRegisters& from, const GdbRegister& which);

// Sets a register; `value` must have the register's size. A new selector also loads the hidden part
// of the segment from the descriptor tables; this fails if the tables have no descriptor for the
// selector. A register that cannot be written accepts only its present value.
Result<void> write_register(GdbRegisters& to, const GdbRegister& which, std::string_view value,
                            const ReadLinear& read_linear);

// Returns the linear address of the next instruction.
uint64_t instruction_address(const vmm::CpuRegisters& registers);

}  // namespace wick::debug
