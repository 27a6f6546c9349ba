#include "debug/gdb_registers.h"

#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/processor_flags.h"
#include "debug/gdb_target_xml.h"

namespace wick::debug {

namespace {

using Group = GdbRegister::Group;
using vmm::SegmentRegister;

constexpr std::array<const char*, 16> kGeneralNames = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi",
                                                       "rbp", "rsp", "r8",  "r9",  "r10", "r11",
                                                       "r12", "r13", "r14", "r15"};
// For each general register in gdb's order, its number in instructions.
constexpr std::array<size_t, 16> kGeneralNumbers = {0, 3, 1,  2,  6,  7,  5,  4,
                                                    8, 9, 10, 11, 12, 13, 14, 15};
constexpr std::array<const char*, 6> kSegmentNames = {"cs", "ss", "ds", "es", "fs", "gs"};
constexpr std::array<const char*, 8> kX87ControlNames = {"fctrl", "fstat", "ftag",  "fiseg",
                                                         "fioff", "foseg", "fooff", "fop"};
constexpr std::array<const char*, 6> kControlNames = {"cr0", "cr2", "cr3", "cr4", "cr8", "efer"};
constexpr std::array<const char*, 6> kControlTypes = {"x64_cr0", "int64", "x64_cr3",
                                                      "x64_cr4", "int64", "x64_efer"};

// Bits of SegmentRegister::attributes.
constexpr uint32_t kAttributesMask = 0x00f0'ff00;
constexpr uint32_t kLongCode = 1 << 21;
constexpr uint32_t kGranularity = 1 << 23;

template <typename Registers>
auto& segment(Registers& cpu, size_t index) {
  const std::array all = {&cpu.cs, &cpu.ss, &cpu.ds, &cpu.es, &cpu.fs, &cpu.gs};
  return *all[index];
}

template <typename Registers>
auto& control(Registers& cpu, size_t index) {
  const std::array all = {&cpu.cr0, &cpu.cr2, &cpu.cr3, &cpu.cr4, &cpu.cr8, &cpu.efer};
  return *all[index];
}

// Computes the two tag bits of a register that is not empty (Intel SDM 1, 8.1.7), because FXSAVE
// stores only whether a register is empty.
uint16_t x87_tag(const std::array<std::byte, 10>& value) {
  const auto exponent = load_le<uint16_t>(std::span(value).subspan(8)) & 0x7fff;
  const auto significand = load_le<uint64_t>(value);
  if (exponent == 0 && significand == 0) return 1;             // zero
  if (exponent != 0x7fff && significand >> 63 == 1) return 0;  // valid
  return 2;                                                    // special
}

uint16_t full_x87_tags(const vmm::FpuRegisters& fpu) {
  const size_t top = fpu.status >> 11 & 7;
  unsigned tags = 0;
  for (size_t physical = 0; physical < 8; ++physical) {
    const bool empty = (fpu.tag >> physical & 1) == 0;
    const unsigned tag = empty ? 3 : x87_tag(fpu.st[(physical - top) & 7]);
    tags |= tag << (2 * physical);
  }
  return static_cast<uint16_t>(tags);
}

uint8_t abridged_x87_tags(uint32_t full) {
  unsigned tags = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    if ((full >> (2 * physical) & 3) != 3) tags |= 1u << physical;
  }
  return static_cast<uint8_t>(tags);
}

uint32_t read_x87_control(const vmm::FpuRegisters& fpu, size_t index) {
  switch (index) {
    case 0:
      return fpu.control;
    case 1:
      return fpu.status;
    case 2:
      return full_x87_tags(fpu);
    case 3:
      return static_cast<uint32_t>(fpu.instruction >> 32);
    case 4:
      return static_cast<uint32_t>(fpu.instruction);
    case 5:
      return static_cast<uint32_t>(fpu.operand >> 32);
    case 6:
      return static_cast<uint32_t>(fpu.operand);
    default:
      return fpu.opcode;
  }
}

void write_x87_control(vmm::FpuRegisters& fpu, size_t index, uint32_t value) {
  constexpr uint64_t kLow = 0xffff'ffff;
  const uint64_t high = uint64_t{value} << 32;
  if (index == 0) fpu.control = static_cast<uint16_t>(value);
  if (index == 1) fpu.status = static_cast<uint16_t>(value);
  if (index == 2) fpu.tag = abridged_x87_tags(value);
  if (index == 3) fpu.instruction = high | (fpu.instruction & kLow);
  if (index == 4) fpu.instruction = (fpu.instruction & ~kLow) | value;
  if (index == 5) fpu.operand = high | (fpu.operand & kLow);
  if (index == 6) fpu.operand = (fpu.operand & ~kLow) | value;
  if (index == 7) fpu.opcode = static_cast<uint16_t>(value);
}

// Loads a segment register from its descriptor as the CPU would, but checks only that the
// descriptor lies within its table: not its privilege, its type or its present bit.
Result<SegmentRegister> load_segment(const vmm::CpuRegisters& cpu, uint16_t selector,
                                     const ReadLinear& read_linear) {
  SegmentRegister made{.selector = selector};
  if ((cpu.cr0 & X86_CR0_PE) == 0 || (cpu.rflags & X86_EFLAGS_VM) != 0) {
    const uint32_t privilege = (cpu.rflags & X86_EFLAGS_VM) != 0 ? 3 << 13 : 0;
    made.base = uint64_t{selector} << 4;
    made.limit = 0xffff;
    made.attributes = 0x9300 | privilege;  // present, read/write data, accessed
    return made;
  }
  if ((selector & ~3u) == 0) {
    made.usable = false;
    return made;
  }
  const bool local = (selector & 4) != 0;
  const uint64_t table = local ? cpu.ldt.base : cpu.gdt.base;
  const uint64_t limit = local ? cpu.ldt.limit : cpu.gdt.limit;
  const uint64_t offset = selector & ~7u;
  std::array<std::byte, 8> descriptor;
  if (offset + 7 > limit || !read_linear(table + offset, descriptor))
    return fail_errno(EINVAL, "selector {:#x}: there is no descriptor for it", selector);
  const auto low = load_le<uint32_t>(descriptor);
  const auto high = load_le<uint32_t>(std::span(descriptor).subspan(4));
  made.base = low >> 16 | (high & 0xff) << 16 | (high & 0xff00'0000);
  made.limit = (low & 0xffff) | (high & 0x000f'0000);
  if ((high & kGranularity) != 0) made.limit = made.limit << 12 | 0xfff;
  made.attributes = high & kAttributesMask;
  return made;
}

template <typename T>
std::string raw(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T number(std::string_view bytes) {
  return load_le<T>(std::as_bytes(std::span(bytes)));
}

}  // namespace

GdbRegisterSet::GdbRegisterSet(bool has_avx) {
  description_ = "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target>\n";
  description_ += "<architecture>i386:x86-64</architecture>\n";
  add_core();
  add_sse();
  add_system();
  if (has_avx) {
    const size_t first = registers_.size();
    for (size_t i = 0; i < 16; ++i)
      add(fmt::format("ymm{}h", i), 16, "uint128", Group::kYmmHigh, i);
    describe("org.gnu.gdb.i386.avx", "", first);
  }
  description_ += "</target>\n";
}

void GdbRegisterSet::add(std::string name, size_t size_bytes, const char* type, Group group,
                         size_t index) {
  registers_.push_back({std::move(name), size_bytes, type, group, index});
}

void GdbRegisterSet::add_core() {
  for (size_t i = 0; i < kGeneralNames.size(); ++i) {
    const bool pointer = i == 6 || i == 7;  // rbp, rsp
    add(kGeneralNames[i], 8, pointer ? "data_ptr" : "int64", Group::kGeneral, i);
  }
  add("rip", 8, "code_ptr", Group::kInstruction, 0);
  add("eflags", 4, "x64_eflags", Group::kFlags, 0);
  for (size_t i = 0; i < kSegmentNames.size(); ++i)
    add(kSegmentNames[i], 4, "int32", Group::kSegment, i);
  for (size_t i = 0; i < 8; ++i) add(fmt::format("st{}", i), 10, "i387_ext", Group::kX87, i);
  for (size_t i = 0; i < kX87ControlNames.size(); ++i)
    add(kX87ControlNames[i], 4, "int", Group::kX87Control, i);
  describe("org.gnu.gdb.i386.core", kCoreTypes, 0);
}

void GdbRegisterSet::add_sse() {
  const size_t first = registers_.size();
  for (size_t i = 0; i < 16; ++i) add(fmt::format("xmm{}", i), 16, "vec128", Group::kXmm, i);
  add("mxcsr", 4, "x64_mxcsr", Group::kMxcsr, 0);
  describe("org.gnu.gdb.i386.sse", kSseTypes, first);
}

void GdbRegisterSet::add_system() {
  size_t first = registers_.size();
  add("fs_base", 8, "int64", Group::kSegmentBase, 0);
  add("gs_base", 8, "int64", Group::kSegmentBase, 1);
  describe("org.gnu.gdb.i386.segments", "", first);

  first = registers_.size();
  add("k_gs_base", 8, "int64", Group::kKernelGsBase, 0);
  for (size_t i = 0; i < kControlNames.size(); ++i)
    add(kControlNames[i], 8, kControlTypes[i], Group::kControl, i);
  describe("wick.x86.system", kSystemTypes, first);
}

void GdbRegisterSet::describe(std::string_view feature, const char* types, size_t first) {
  description_ += fmt::format("<feature name=\"{}\">\n{}", feature, types);
  for (size_t i = first; i < registers_.size(); ++i) {
    const GdbRegister& it = registers_[i];
    const char* group = "";
    if (it.group == Group::kX87Control) group = " group=\"float\"";
    if (it.group == Group::kMxcsr) group = " group=\"vector\"";
    description_ += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{}\"{}/>\n",
                                it.name, it.size_bytes * 8, it.type, i, group);
  }
  description_ += "</feature>\n";
}

size_t GdbRegisterSet::size_bytes() const {
  size_t sum = 0;
  for (const GdbRegister& it : registers_) sum += it.size_bytes;
  return sum;
}

std::string read_register(const GdbRegisters& from, const GdbRegister& which) {
  const vmm::CpuRegisters& cpu = from.cpu;
  switch (which.group) {
    case Group::kGeneral:
      return raw(cpu.general[kGeneralNumbers[which.index]]);
    case Group::kInstruction:
      return raw(cpu.rip);
    case Group::kFlags:
      return raw(static_cast<uint32_t>(cpu.rflags));
    case Group::kSegment:
      return raw(uint32_t{segment(cpu, which.index).selector});
    case Group::kX87:
      return raw(from.fpu.st[which.index]);
    case Group::kX87Control:
      return raw(read_x87_control(from.fpu, which.index));
    case Group::kXmm:
      return raw(from.fpu.xmm[which.index]);
    case Group::kMxcsr:
      return raw(from.fpu.mxcsr);
    case Group::kSegmentBase:
      return raw(which.index == 0 ? cpu.fs.base : cpu.gs.base);
    case Group::kKernelGsBase:
      return raw(from.kernel_gs_base);
    case Group::kControl:
      return raw(control(cpu, which.index));
    case Group::kYmmHigh:
      return raw(from.fpu.ymm_high[which.index]);
  }
  return {};
}

Result<void> write_register(GdbRegisters& to, const GdbRegister& which, std::string_view value,
                            const ReadLinear& read_linear) {
  vmm::CpuRegisters& cpu = to.cpu;
  const size_t i = which.index;
  switch (which.group) {
    case Group::kGeneral:
      cpu.general[kGeneralNumbers[i]] = number<uint64_t>(value);
      break;
    case Group::kInstruction:
      cpu.rip = number<uint64_t>(value);
      break;
    case Group::kFlags:
      cpu.rflags = number<uint32_t>(value) | X86_EFLAGS_FIXED;
      break;
    case Group::kSegment: {
      const auto selector = number<uint16_t>(value);
      SegmentRegister& target = segment(cpu, i);
      if (selector == target.selector) break;  // the hidden part may differ from the descriptor
      target = TRY(load_segment(cpu, selector, read_linear));
      break;
    }
    case Group::kX87:
      std::memcpy(to.fpu.st[i].data(), value.data(), to.fpu.st[i].size());
      break;
    case Group::kX87Control:
      write_x87_control(to.fpu, i, number<uint32_t>(value));
      break;
    case Group::kXmm:
      to.fpu.xmm[i] = number<std::array<std::byte, 16>>(value);
      break;
    case Group::kMxcsr:
      to.fpu.mxcsr = number<uint32_t>(value);
      break;
    case Group::kSegmentBase:
      (i == 0 ? cpu.fs : cpu.gs).base = number<uint64_t>(value);
      break;
    case Group::kKernelGsBase:
      if (number<uint64_t>(value) != to.kernel_gs_base)
        return fail_errno(EPERM, "register {}: it cannot be written", which.name);
      break;
    case Group::kControl:
      control(cpu, i) = number<uint64_t>(value);
      break;
    case Group::kYmmHigh:
      to.fpu.ymm_high[i] = number<std::array<std::byte, 16>>(value);
      break;
  }
  return {};
}

uint64_t instruction_address(const vmm::CpuRegisters& registers) {
  const bool long_mode =
      (registers.efer & EFER_LMA) != 0 && (registers.cs.attributes & kLongCode) != 0;
  if (long_mode) return registers.rip;
  return static_cast<uint32_t>(registers.cs.base + registers.rip);
}

}  // namespace wick::debug
