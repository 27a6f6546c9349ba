// info registers, in QEMU's layout, which scripts read.
#include <fmt/format.h>

#include <bit>

#include "base/processor_flags.h"
#include "control/hmp_command.h"

namespace wick::control::hmp {

namespace {

using vmm::CpuRegisters;
using vmm::FpuRegisters;
using vmm::SegmentRegister;

// The bits of SegmentRegister::attributes, which are those of a descriptor's second word (Intel SDM
// 3, 3.4.5).
constexpr uint32_t kAccessed = 1 << 8, kWritable = 1 << 9, kExpandDown = 1 << 10, kCode = 1 << 11,
                   kCodeOrData = 1 << 12, kPresent = 1 << 15, kLong = 1 << 21, kBig = 1 << 22;

bool is_long_mode(const CpuRegisters& r) { return (r.efer & EFER_LMA) != 0; }
bool is_64_bit(const CpuRegisters& r) { return is_long_mode(r) && (r.cs.attributes & kLong) != 0; }

// Returns the flags as "DOSZAPC", with '-' for each flag that is not set.
std::string flag_letters(uint64_t rflags) {
  struct Flag {
    uint64_t bit;
    char letter;
  };
  constexpr Flag kFlags[] = {{X86_EFLAGS_DF, 'D'}, {X86_EFLAGS_OF, 'O'}, {X86_EFLAGS_SF, 'S'},
                             {X86_EFLAGS_ZF, 'Z'}, {X86_EFLAGS_AF, 'A'}, {X86_EFLAGS_PF, 'P'},
                             {X86_EFLAGS_CF, 'C'}};
  std::string text;
  for (const Flag& flag : kFlags) text += (rflags & flag.bit) != 0 ? flag.letter : '-';
  return text;
}

// Returns the name of a system segment or gate in legacy or in long mode (Intel SDM 3, table 3-2).
const char* system_type(uint32_t type, bool long_mode) {
  constexpr const char* kLegacy[] = {"Reserved",   "TSS16-avl", "LDT",       "TSS16-busy",
                                     "CallGate16", "TaskGate",  "IntGate16", "TrapGate16",
                                     "Reserved",   "TSS32-avl", "Reserved",  "TSS32-busy",
                                     "CallGate32", "Reserved",  "IntGate32", "TrapGate32"};
  constexpr const char* kLong64[] = {"<hiword>",   "Reserved",  "LDT",       "Reserved",
                                     "Reserved",   "Reserved",  "Reserved",  "Reserved",
                                     "Reserved",   "TSS64-avl", "Reserved",  "TSS64-busy",
                                     "CallGate64", "Reserved",  "IntGate64", "TrapGate64"};
  return long_mode ? kLong64[type] : kLegacy[type];
}

std::string describe(const CpuRegisters& r, const SegmentRegister& segment) {
  const uint32_t bits = segment.attributes;
  const bool protected_mode = (r.cr0 & X86_CR0_PE) != 0 && (r.rflags & X86_EFLAGS_VM) == 0;
  if (!protected_mode || (bits & kPresent) == 0) return "";
  std::string text = fmt::format(" DPL={} ", bits >> 13 & 3);
  const auto letter = [bits](uint32_t bit, char name) { return (bits & bit) != 0 ? name : '-'; };
  if ((bits & kCodeOrData) == 0) return text + system_type(bits >> 8 & 15, is_long_mode(r));
  const char accessed = letter(kAccessed, 'A');
  if ((bits & kCode) != 0) {
    const char* size = (bits & kLong) != 0 ? "CS64" : (bits & kBig) != 0 ? "CS32" : "CS16";
    return text + fmt::format("{} [{}{}{}]", size, letter(kExpandDown, 'C'), letter(kWritable, 'R'),
                              accessed);
  }
  const char* size = (bits & kBig) != 0 || is_long_mode(r) ? "DS  " : "DS16";
  return text + fmt::format("{} [{}{}{}]", size, letter(kExpandDown, 'E'), letter(kWritable, 'W'),
                            accessed);
}

std::string general(const CpuRegisters& r, bool halted) {
  const auto& g = r.general;
  const auto state = [&] {
    return fmt::format("[{}] CPL={} II=0 A20=1 SMM=0 HLT={}\n", flag_letters(r.rflags),
                       r.cs.selector & 3, halted ? 1 : 0);
  };
  if (!is_64_bit(r)) {
    return fmt::format(
               "EAX={:08x} EBX={:08x} ECX={:08x} EDX={:08x}\n"
               "ESI={:08x} EDI={:08x} EBP={:08x} ESP={:08x}\n"
               "EIP={:08x} EFL={:08x} ",
               static_cast<uint32_t>(g[0]), static_cast<uint32_t>(g[3]),
               static_cast<uint32_t>(g[1]), static_cast<uint32_t>(g[2]),
               static_cast<uint32_t>(g[6]), static_cast<uint32_t>(g[7]),
               static_cast<uint32_t>(g[5]), static_cast<uint32_t>(g[4]),
               static_cast<uint32_t>(r.rip), static_cast<uint32_t>(r.rflags)) +
           state();
  }
  return fmt::format(
             "RAX={:016x} RBX={:016x} RCX={:016x} RDX={:016x}\n"
             "RSI={:016x} RDI={:016x} RBP={:016x} RSP={:016x}\n"
             "R8 ={:016x} R9 ={:016x} R10={:016x} R11={:016x}\n"
             "R12={:016x} R13={:016x} R14={:016x} R15={:016x}\n"
             "RIP={:016x} RFL={:08x} ",
             g[0], g[3], g[1], g[2], g[6], g[7], g[5], g[4], g[8], g[9], g[10], g[11], g[12], g[13],
             g[14], g[15], r.rip, static_cast<uint32_t>(r.rflags)) +
         state();
}

std::string segments(const CpuRegisters& r) {
  struct Named {
    const char* name;
    const SegmentRegister* segment;
  };
  const Named all[] = {{"ES ", &r.es}, {"CS ", &r.cs}, {"SS ", &r.ss},  {"DS ", &r.ds},
                       {"FS ", &r.fs}, {"GS ", &r.gs}, {"LDT", &r.ldt}, {"TR ", &r.tr}};
  const int digits = is_64_bit(r) ? 16 : 8;
  std::string text;
  for (const auto& [name, segment] : all)
    text += fmt::format("{}={:04x} {:0{}x} {:08x} {:08x}{}\n", name, segment->selector,
                        segment->base, digits, segment->limit, segment->attributes & 0x00f0ff00,
                        describe(r, *segment));
  text += fmt::format("GDT=     {:0{}x} {:08x}\n", r.gdt.base, digits, r.gdt.limit);
  text += fmt::format("IDT=     {:0{}x} {:08x}\n", r.idt.base, digits, r.idt.limit);
  text += fmt::format("CR0={:08x} CR2={:0{}x} CR3={:0{}x} CR4={:08x}\n", r.cr0, r.cr2, digits,
                      r.cr3, digits, r.cr4);
  for (size_t i = 0; i < r.dr.size(); ++i) text += fmt::format("DR{}={:016x} ", i, r.dr[i]);
  text += fmt::format("\nDR6={:016x} DR7={:016x}\nEFER={:016x}\n", r.dr6, r.dr7, r.efer);
  return text;
}

uint64_t little_endian(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | std::to_integer<uint64_t>(bytes[i]);
  return value;
}

std::string floating_point(const FpuRegisters& f, bool long_mode) {
  const uint32_t top = f.status >> 11 & 7;
  std::string text = fmt::format("FCW={:04x} FSW={:04x} [ST={}] FTW={:02x} MXCSR={:08x}\n",
                                 f.control, f.status, top, f.tag, f.mxcsr);
  for (size_t i = 0; i < f.st.size(); ++i) {
    // As in QEMU, FPR0 to FPR7 are the physical registers; f.st begins with the top of the stack.
    const std::span<const std::byte> bytes = f.st[(i + 8 - top) % 8];
    text += fmt::format("FPR{}={:016x} {:04x}{}", i, little_endian(bytes.first(8)),
                        little_endian(bytes.subspan(8)), i % 2 == 1 ? "\n" : " ");
  }
  for (size_t i = 0; i < (long_mode ? 16u : 8u); ++i) {
    const std::span<const std::byte> bytes = f.xmm[i];
    text += fmt::format("XMM{:02}={:016x} {:016x}{}", i, little_endian(bytes.subspan(8)),
                        little_endian(bytes.first(8)), i % 2 == 1 ? "\n" : " ");
  }
  return text;
}

std::string registers_of(const vmm::Inspector& inspector, uint32_t cpu) {
  std::string text = fmt::format("\nCPU#{}\n", cpu);
  const auto registers = inspector.registers(cpu);
  if (!registers) return text + registers.error().message() + "\n";
  text += general(*registers, inspector.halted(cpu)) + segments(*registers);
  if (const auto fpu = inspector.fpu(cpu)) text += floating_point(*fpu, is_64_bit(*registers));
  return text;
}

}  // namespace

std::string info_registers(Hmp& monitor, const Arguments& arguments) {
  const vmm::Inspector& inspector = monitor.context().inspector();
  if (arguments.flag('a')) {
    std::string text;
    for (uint32_t cpu = 0; cpu < inspector.cpu_count(); ++cpu) text += registers_of(inspector, cpu);
    return text;
  }
  const int64_t cpu = arguments.has("vcpu") ? arguments.numbers.at("vcpu") : int64_t{monitor.cpu()};
  if (cpu < 0 || cpu >= inspector.cpu_count())
    return "CPU#" + std::to_string(cpu) + " not available\n";
  return registers_of(inspector, static_cast<uint32_t>(cpu));
}

std::string info_msr(Hmp& monitor, const Arguments& arguments) {
  const auto index = static_cast<uint32_t>(arguments.numbers.at("index"));
  const auto value = monitor.context().inspector().read_msr(monitor.cpu(), index);
  if (!value) return "Error: " + value.error().message() + "\n";
  return fmt::format("{:#010x}: {:#018x}\n", index, *value);
}

}  // namespace wick::control::hmp
