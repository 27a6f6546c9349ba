#include "debug/core_notes.h"

#include <elf.h>
#include <sys/procfs.h>
#include <sys/user.h>

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/bytes.h"
#include "base/processor_flags.h"

namespace wick::debug {

namespace {

using vmm::CpuRegisters;

// The general registers with their numbers in instructions, the order of CpuRegisters::general.
enum Number { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR8 };

struct QemuSegment {
  uint32_t selector;
  uint32_t limit;
  uint32_t flags;
  uint32_t padding;
  uint64_t base;
};

struct QemuCpuState {
  uint32_t version;
  uint32_t size;
  uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
  uint64_t r8_to_r15[8];
  uint64_t rip, rflags;
  QemuSegment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
  uint64_t cr[5];  // CR0 to CR4; CR1 does not exist and is 0
  uint64_t kernel_gs_base;
};
static_assert(sizeof(QemuCpuState) == 0x1b8);
constexpr uint32_t kQemuCpuStateVersion = 1;

static_assert(sizeof(elf_prstatus) == 336);
static_assert(sizeof(user_regs_struct) == sizeof(elf_gregset_t));

// elf_prstatus of a 32-bit kernel.
struct I386ProcessStatus {
  uint8_t before_pid[24];
  uint32_t pid;
  uint8_t before_registers[44];
  uint32_t ebx, ecx, edx, esi, edi, ebp, eax;
  uint32_t ds, es, fs, gs;
  uint32_t orig_eax;
  uint32_t eip, cs, eflags, esp, ss;
  uint32_t fpu_valid;
};
static_assert(sizeof(I386ProcessStatus) == 144);

template <typename Content>
void append_note(std::vector<std::byte>& notes, std::string_view name, uint32_t type,
                 const Content& content) {
  const Elf64_Nhdr header{.n_namesz = static_cast<uint32_t>(name.size() + 1),
                          .n_descsz = sizeof(content),
                          .n_type = type};
  const size_t at = notes.size();
  const size_t name_bytes = align_up(header.n_namesz, 4);
  notes.resize(at + sizeof(header) + name_bytes + align_up(sizeof(content), 4));
  std::byte* const to = notes.data() + at;
  std::memcpy(to, &header, sizeof(header));
  std::memcpy(to + sizeof(header), name.data(), name.size());
  std::memcpy(to + sizeof(header) + name_bytes, &content, sizeof(content));
}

elf_prstatus process_status(const CpuRegisters& cpu, size_t number) {
  const auto& general = cpu.general;
  user_regs_struct registers{};
  registers.r15 = general[15];
  registers.r14 = general[14];
  registers.r13 = general[13];
  registers.r12 = general[12];
  registers.r11 = general[11];
  registers.r10 = general[10];
  registers.r9 = general[9];
  registers.r8 = general[kR8];
  registers.rax = general[kRax];
  registers.rbx = general[kRbx];
  registers.rcx = general[kRcx];
  registers.rdx = general[kRdx];
  registers.rsi = general[kRsi];
  registers.rdi = general[kRdi];
  registers.rbp = general[kRbp];
  registers.rsp = general[kRsp];
  registers.rip = cpu.rip;
  registers.eflags = cpu.rflags;
  registers.cs = cpu.cs.selector;
  registers.ss = cpu.ss.selector;
  registers.ds = cpu.ds.selector;
  registers.es = cpu.es.selector;
  registers.fs = cpu.fs.selector;
  registers.gs = cpu.gs.selector;
  registers.fs_base = cpu.fs.base;
  registers.gs_base = cpu.gs.base;
  elf_prstatus status{};
  status.pr_pid = static_cast<pid_t>(number + 1);  // debuggers do not accept a thread 0
  std::memcpy(&status.pr_reg, &registers, sizeof(registers));
  return status;
}

I386ProcessStatus i386_process_status(const CpuRegisters& cpu, size_t number) {
  const auto low = [&](Number which) { return static_cast<uint32_t>(cpu.general[which]); };
  I386ProcessStatus status{};
  status.pid = static_cast<uint32_t>(number + 1);
  status.ebx = low(kRbx);
  status.ecx = low(kRcx);
  status.edx = low(kRdx);
  status.esi = low(kRsi);
  status.edi = low(kRdi);
  status.ebp = low(kRbp);
  status.eax = low(kRax);
  status.ds = cpu.ds.selector;
  status.es = cpu.es.selector;
  status.fs = cpu.fs.selector;
  status.gs = cpu.gs.selector;
  status.eip = static_cast<uint32_t>(cpu.rip);
  status.cs = cpu.cs.selector;
  status.eflags = static_cast<uint32_t>(cpu.rflags);
  status.esp = low(kRsp);
  status.ss = cpu.ss.selector;
  return status;
}

QemuSegment segment(const vmm::SegmentRegister& from) {
  return {.selector = from.selector,
          .limit = from.limit,
          .flags = from.usable ? from.attributes : 0,
          .padding = 0,
          .base = from.base};
}

QemuSegment table(const vmm::TableRegister& from) {
  return {.selector = 0, .limit = from.limit, .flags = 0, .padding = 0, .base = from.base};
}

QemuCpuState qemu_state(const CoreCpu& core_cpu) {
  const CpuRegisters& cpu = core_cpu.registers;
  QemuCpuState state{};
  state.version = kQemuCpuStateVersion;
  state.size = sizeof(state);
  state.rax = cpu.general[kRax];
  state.rbx = cpu.general[kRbx];
  state.rcx = cpu.general[kRcx];
  state.rdx = cpu.general[kRdx];
  state.rsi = cpu.general[kRsi];
  state.rdi = cpu.general[kRdi];
  state.rsp = cpu.general[kRsp];
  state.rbp = cpu.general[kRbp];
  std::memcpy(state.r8_to_r15, &cpu.general[kR8], sizeof(state.r8_to_r15));
  state.rip = cpu.rip;
  state.rflags = cpu.rflags;
  state.cs = segment(cpu.cs);
  state.ds = segment(cpu.ds);
  state.es = segment(cpu.es);
  state.fs = segment(cpu.fs);
  state.gs = segment(cpu.gs);
  state.ss = segment(cpu.ss);
  state.ldt = segment(cpu.ldt);
  state.tr = segment(cpu.tr);
  state.gdt = table(cpu.gdt);
  state.idt = table(cpu.idt);
  state.cr[0] = cpu.cr0;
  state.cr[2] = cpu.cr2;
  state.cr[3] = cpu.cr3;
  state.cr[4] = cpu.cr4;
  state.kernel_gs_base = core_cpu.kernel_gs_base;
  return state;
}

}  // namespace

NoteLayout layout_for(std::span<const CoreCpu> cpus) {
  const bool long_mode = !cpus.empty() && (cpus.front().registers.efer & EFER_LMA) != 0;
  return long_mode ? NoteLayout::kX86_64 : NoteLayout::kI386;
}

std::vector<std::byte> core_notes(std::span<const CoreCpu> cpus, NoteLayout layout,
                                  const GuestNote* guest) {
  std::vector<std::byte> notes;
  for (size_t i = 0; i < cpus.size(); ++i) {
    if (layout == NoteLayout::kX86_64)
      append_note(notes, "CORE", NT_PRSTATUS, process_status(cpus[i].registers, i));
    else
      append_note(notes, "CORE", NT_PRSTATUS, i386_process_status(cpus[i].registers, i));
  }
  for (const CoreCpu& cpu : cpus) append_note(notes, "QEMU", 0, qemu_state(cpu));
  if (guest != nullptr) notes.insert(notes.end(), guest->bytes().begin(), guest->bytes().end());
  return notes;
}

}  // namespace wick::debug
