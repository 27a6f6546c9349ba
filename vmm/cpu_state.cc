#include "vmm/cpu_state.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "vmm/kvm.h"

namespace wick::vmm {

namespace {

// `attributes` has its bits where the second word of a segment descriptor has them (Intel SDM 3,
// 3.4.5).
SegmentRegister from_kvm(const kvm_segment& segment) {
  const auto bit = [](uint8_t value, int position) { return uint32_t{value} << position; };
  return {.base = segment.base,
          .limit = segment.limit,
          .selector = segment.selector,
          .attributes = bit(segment.type, 8) | bit(segment.s, 12) | bit(segment.dpl, 13) |
                        bit(segment.present, 15) | bit(segment.avl, 20) | bit(segment.l, 21) |
                        bit(segment.db, 22) | bit(segment.g, 23),
          .usable = segment.unusable == 0};
}

void to_kvm(const SegmentRegister& from, kvm_segment& to) {
  const auto field = [&](int position, uint32_t mask) {
    return static_cast<uint8_t>(from.attributes >> position & mask);
  };
  to.base = from.base;
  to.limit = from.limit;
  to.selector = from.selector;
  to.type = field(8, 15);
  to.s = field(12, 1);
  to.dpl = field(13, 3);
  to.present = field(15, 1);
  to.avl = field(20, 1);
  to.l = field(21, 1);
  to.db = field(22, 1);
  to.g = field(23, 1);
  to.unusable = from.usable ? 0 : 1;
}

struct SegmentPair {
  SegmentRegister CpuRegisters::*plain;
  kvm_segment kvm_sregs::*kvm;
};

constexpr SegmentPair kSegments[] = {
    {&CpuRegisters::cs, &kvm_sregs::cs},   {&CpuRegisters::ss, &kvm_sregs::ss},
    {&CpuRegisters::ds, &kvm_sregs::ds},   {&CpuRegisters::es, &kvm_sregs::es},
    {&CpuRegisters::fs, &kvm_sregs::fs},   {&CpuRegisters::gs, &kvm_sregs::gs},
    {&CpuRegisters::ldt, &kvm_sregs::ldt}, {&CpuRegisters::tr, &kvm_sregs::tr}};

// In the order of CpuRegisters::general.
constexpr __u64 kvm_regs::*kGeneral[] = {
    &kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx, &kvm_regs::rsp, &kvm_regs::rbp,
    &kvm_regs::rsi, &kvm_regs::rdi, &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
    &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};

template <typename Value>
Result<void> call(int fd, unsigned long request, const char* name, Value* value) {
  if (::ioctl(fd, request, value) != 0) return fail_errno(errno, "kvm: {}", name);
  return {};
}

// Offsets and component bits of the XSAVE area in its standard format (Intel SDM 1, 13.4).
constexpr size_t kXmmOffset = 160;
constexpr size_t kHeaderOffset = 512;  // the header begins with XSTATE_BV
constexpr size_t kYmmOffset = 576;
constexpr uint64_t kX87 = 1 << 0;
constexpr uint64_t kSse = 1 << 1;
constexpr uint64_t kAvx = 1 << 2;

// Large enough for every CPU: the area has 11 KiB with AMX (KVM_CAP_XSAVE2 returns its size).
using XsaveArea = std::vector<char>;
constexpr size_t kXsaveBytes = 64 << 10;

Result<XsaveArea> get_xsave(int fd) {
  XsaveArea area(kXsaveBytes);
  // KVM_GET_XSAVE fails if the area does not fit into struct kvm_xsave. Linux before 5.17 lacks
  // KVM_GET_XSAVE2.
  if (::ioctl(fd, kKvmGetXsave2, area.data()) != 0)
    TRY(call(fd, kKvmGetXsave, "KVM_GET_XSAVE", area.data()));
  return area;
}

template <typename T>
void load(const XsaveArea& area, size_t offset, T& to) {
  std::memcpy(&to, area.data() + offset, sizeof(to));
}

template <typename T>
void store(XsaveArea& area, size_t offset, const T& from) {
  std::memcpy(area.data() + offset, &from, sizeof(from));
}

}  // namespace

Result<CpuRegisters> read_registers(int fd) {
  kvm_regs regs{};
  kvm_sregs sregs{};
  kvm_debugregs debug{};
  TRY(call(fd, KVM_GET_REGS, "KVM_GET_REGS", &regs));
  TRY(call(fd, KVM_GET_SREGS, "KVM_GET_SREGS", &sregs));
  TRY(call(fd, KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS", &debug));
  CpuRegisters result;
  for (size_t i = 0; i < result.general.size(); ++i) result.general[i] = regs.*kGeneral[i];
  result.rip = regs.rip;
  result.rflags = regs.rflags;
  for (const auto& [plain, kvm] : kSegments) result.*plain = from_kvm(sregs.*kvm);
  result.gdt = {sregs.gdt.base, sregs.gdt.limit};
  result.idt = {sregs.idt.base, sregs.idt.limit};
  result.cr0 = sregs.cr0;
  result.cr2 = sregs.cr2;
  result.cr3 = sregs.cr3;
  result.cr4 = sregs.cr4;
  result.cr8 = sregs.cr8;
  result.efer = sregs.efer;
  result.apic_base = sregs.apic_base;
  std::ranges::copy(debug.db, result.dr.begin());
  result.dr6 = debug.dr6;
  result.dr7 = debug.dr7;
  return result;
}

Result<void> write_registers(int fd, const CpuRegisters& registers) {
  kvm_regs regs{};
  for (size_t i = 0; i < registers.general.size(); ++i) regs.*kGeneral[i] = registers.general[i];
  regs.rip = registers.rip;
  regs.rflags = registers.rflags;
  kvm_sregs sregs{};
  TRY(call(fd, KVM_GET_SREGS, "KVM_GET_SREGS", &sregs));
  const kvm_sregs before = sregs;
  for (const auto& [plain, kvm] : kSegments) to_kvm(registers.*plain, sregs.*kvm);
  sregs.gdt.base = registers.gdt.base;
  sregs.gdt.limit = registers.gdt.limit;
  sregs.idt.base = registers.idt.base;
  sregs.idt.limit = registers.idt.limit;
  sregs.cr0 = registers.cr0;
  sregs.cr2 = registers.cr2;
  sregs.cr3 = registers.cr3;
  sregs.cr4 = registers.cr4;
  sregs.cr8 = registers.cr8;
  sregs.efer = registers.efer;
  sregs.apic_base = registers.apic_base;
  // KVM_SET_SREGS makes KVM rebuild its view of the page tables, and drops an interrupt that is
  // about to be delivered unless `interrupt_bitmap` repeats it. So it is called only for a change.
  if (std::memcmp(&before, &sregs, sizeof(sregs)) != 0)
    TRY(call(fd, KVM_SET_SREGS, "KVM_SET_SREGS", &sregs));
  return call(fd, KVM_SET_REGS, "KVM_SET_REGS", &regs);
}

Result<FpuRegisters> read_fpu(int fd) {
  XsaveArea area = TRY(get_xsave(fd));
  uint64_t present = 0;
  load(area, kHeaderOffset, present);
  FpuRegisters result;
  // A component whose XSTATE_BV bit is clear has its initial values, which are not in the area.
  result.control = 0x37f;
  result.mxcsr = 0x1f80;
  if ((present & kX87) != 0) {
    load(area, 0, result.control);
    load(area, 2, result.status);
    load(area, 4, result.tag);
    load(area, 6, result.opcode);
    load(area, 8, result.instruction);
    load(area, 16, result.operand);
    for (size_t i = 0; i < result.st.size(); ++i) load(area, 32 + 16 * i, result.st[i]);
  }
  if ((present & (kSse | kAvx)) != 0) load(area, 24, result.mxcsr);
  if ((present & kSse) != 0) load(area, kXmmOffset, result.xmm);
  if ((present & kAvx) != 0) load(area, kYmmOffset, result.ymm_high);
  return result;
}

Result<void> write_fpu(int fd, const FpuRegisters& registers) {
  XsaveArea area = TRY(get_xsave(fd));
  uint64_t present = 0;
  load(area, kHeaderOffset, present);
  present |= kX87 | kSse;
  const bool has_high = std::ranges::any_of(registers.ymm_high, [](const auto& value) {
    return std::ranges::any_of(value, [](std::byte byte) { return byte != std::byte{0}; });
  });
  if (has_high) present |= kAvx;
  store(area, kHeaderOffset, present);
  store(area, 0, registers.control);
  store(area, 2, registers.status);
  store(area, 4, registers.tag);
  store(area, 6, registers.opcode);
  store(area, 8, registers.instruction);
  store(area, 16, registers.operand);
  store(area, 24, registers.mxcsr);
  for (size_t i = 0; i < registers.st.size(); ++i) store(area, 32 + 16 * i, registers.st[i]);
  store(area, kXmmOffset, registers.xmm);
  if ((present & kAvx) != 0) store(area, kYmmOffset, registers.ymm_high);
  return call(fd, kKvmSetXsave, "KVM_SET_XSAVE", area.data());
}

Result<uint64_t> read_msr(int fd, uint32_t index) {
  KvmList<kvm_msr_entry, 1> msrs{.count = 1};
  msrs.entries[0].index = index;
  if (::ioctl(fd, kKvmGetMsrs, &msrs) != 1)
    return fail_errno(EINVAL, "kvm: cannot read MSR {:#x}", index);
  return msrs.entries[0].data;
}

}  // namespace wick::vmm
