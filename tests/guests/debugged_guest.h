// A guest with two vCPUs in 64-bit mode, to be debugged (tests/lab/gdb_session.gdb). It needs
// 64 MiB of RAM and a local APIC, and starts by PVH, so that wick and QEMU boot the same file:
// pvh_elf(debugged_guest()).
//
// RAM is mapped at 0 and at 0xffffffff80000000 (4 MiB), where the code runs. vCPU 0 calls `work`
// for ever, vCPU 1 counts. At kDebuggedData are, 8 bytes each: the number of calls, vCPU 1's
// count, and a flag that ends the guest by a reset once it is not 0.
//
// Specification: Intel SDM 3, 10.8.5 (IA-32e mode), 9.4 (INIT and SIPI), 11.6 (the ICR).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/guests/tiny_guest.h"

namespace wick::guests {

inline constexpr uint64_t kDebuggedHigh = 0xffff'ffff'8000'0000;
inline constexpr uint64_t kDebuggedMain = kDebuggedHigh + 0x10'0200;
inline constexpr uint64_t kDebuggedWork = kDebuggedHigh + 0x10'0300;
inline constexpr uint64_t kDebuggedData = kDebuggedHigh + 0x20'8800;

struct PlacedInstruction {
  size_t offset;
  const char* hex;
};

// clang-format off
inline constexpr PlacedInstruction kDebuggedGuest[] = {
    // start: 32-bit, without paging
    {0x000, "fa"},  // cli
    {0x001, "fc"},  // cld
    {0x002, "bf00002000"},  // mov $0x200000,%edi
    {0x007, "31c0"},  // xor %eax,%eax
    {0x009, "b900280000"},  // mov $0x2800,%ecx
    {0x00e, "f3ab"},  // rep stos: clears 40 KiB of tables, data and stacks
    {0x010, "c7050000200003102000"},  // movl $0x201003,0x200000: PML4[0] and PML4[511]
    {0x01a, "c705f80f200003102000"},  // movl $0x201003,0x200ff8
    {0x024, "c7050010200003202000"},  // movl $0x202003,0x201000: PDPT[0] and PDPT[510]
    {0x02e, "c705f01f200003202000"},  // movl $0x202003,0x201ff0
    {0x038, "c7051810200003302000"},  // movl $0x203003,0x201018: PDPT[3]
    {0x042, "c7050020200083000000"},  // movl $0x83,0x202000: 4 MiB of RAM
    {0x04c, "c7050820200083002000"},  // movl $0x200083,0x202008
    {0x056, "c705b83f20009300e0fe"},  // movl $0xfee00093,0x203fb8: the local APIC
    {0x060, "be00011000"},  // mov $0x100100,%esi
    {0x065, "bf00800000"},  // mov $0x8000,%edi
    {0x06a, "b980000000"},  // mov $0x80,%ecx
    {0x06f, "f3a4"},  // rep movsb %ds:(%esi),%es:(%edi)
    {0x071, "b820000000"},  // mov $0x20,%eax: CR4.PAE
    {0x076, "0f22e0"},  // mov %eax,%cr4
    {0x079, "b800002000"},  // mov $0x200000,%eax
    {0x07e, "0f22d8"},  // mov %eax,%cr3
    {0x081, "b9800000c0"},  // mov $0xc0000080,%ecx
    {0x086, "31d2"},  // xor %edx,%edx
    {0x088, "b800010000"},  // mov $0x100,%eax: EFER.LME
    {0x08d, "0f30"},  // wrmsr
    {0x08f, "b801000080"},  // mov $0x80000001,%eax: CR0.PG and PE
    {0x094, "0f22c0"},  // mov %eax,%cr0
    {0x097, "0f011590011000"},  // lgdtl 0x100190
    {0x09e, "eaa50010000800"},  // ljmp $0x8,$0x1000a5
    // entry64
    {0x0a5, "48c7c000021080"},  // mov $0xffffffff80100200,%rax
    {0x0ac, "ffe0"},  // jmp *%rax
    // trampoline of vCPU 1, copied to 0x8000: 16-bit
    {0x100, "fa"},  // cli
    {0x101, "2e660f01163c00"},  // lgdtl %cs:0x3c
    {0x108, "66b820000000"},  // mov $0x20,%eax: CR4.PAE
    {0x10e, "0f22e0"},  // mov %eax,%cr4
    {0x111, "66b800002000"},  // mov $0x200000,%eax
    {0x117, "0f22d8"},  // mov %eax,%cr3
    {0x11a, "66b9800000c0"},  // mov $0xc0000080,%ecx
    {0x120, "6631d2"},  // xor %edx,%edx
    {0x123, "66b800010000"},  // mov $0x100,%eax: EFER.LME
    {0x129, "0f30"},  // wrmsr
    {0x12b, "66b801000080"},  // mov $0x80000001,%eax: CR0.PG and PE
    {0x131, "0f22c0"},  // mov %eax,%cr0
    {0x134, "66ea960110000800"},  // ljmpl $0x8,$0x100196
    {0x13c, "0f0080011000"},  // .word 15; .long 0x100180: for lgdt
    {0x180, "0000000000000000"},  // the GDT: none
    {0x188, "ffff0000009baf00"},  // 64-bit code
    {0x190, "0f0080011000"},  // .word 15; .long 0x100180: for lgdt
    // ap_entry64
    {0x196, "48c7c080031080"},  // mov $0xffffffff80100380,%rax
    {0x19d, "ffe0"},  // jmp *%rax
    // main
    {0x200, "48c7c400802080"},  // mov $0xffffffff80208000,%rsp
    {0x207, "bf0003e0fe"},  // mov $0xfee00300,%edi: the APIC's ICR
    {0x20c, "c70700450c00"},  // movl $0xc4500,(%rdi): INIT to all others
    {0x212, "b900000100"},  // mov $0x10000,%ecx
    {0x217, "e2fe"},  // loop 217
    {0x219, "c70708460c00"},  // movl $0xc4608,(%rdi): SIPI, 0x8000
    {0x21f, "48c7c300882080"},  // mov $0xffffffff80208800,%rbx
    {0x226, "f390"},  // pause
    {0x228, "48837b0800"},  // cmpq $0x0,0x8(%rbx)
    {0x22d, "74f7"},  // je 226
    {0x22f, "41b811110000"},  // mov $0x1111,%r8d
    // tick
    {0x280, "90"},  // nop
    {0x281, "e87a000000"},  // call 300
    {0x286, "48837b1000"},  // cmpq $0x0,0x10(%rbx)
    {0x28b, "74f3"},  // je 280
    {0x28d, "b0fe"},  // mov $0xfe,%al
    {0x28f, "e664"},  // out %al,$0x64: reset
    {0x291, "f4"},  // hlt
    {0x292, "ebfd"},  // jmp 291
    // work
    {0x300, "48ff03"},  // incq (%rbx)
    {0x303, "488b03"},  // mov (%rbx),%rax
    {0x306, "488d1400"},  // lea (%rax,%rax,1),%rdx
    {0x30a, "c3"},  // ret
    // ap_main
    {0x380, "48c7c400902080"},  // mov $0xffffffff80209000,%rsp
    {0x387, "48c7c300882080"},  // mov $0xffffffff80208800,%rbx
    // ap_tick
    {0x38e, "48ff4308"},  // incq 0x8(%rbx)
    {0x392, "f390"},  // pause
    {0x394, "ebf8"},  // jmp 38e
};
// clang-format on

inline Code debugged_guest() {
  constexpr size_t kBytes = 0x400;
  std::string image(kBytes, '\x90');  // nop
  for (const auto& [offset, hex] : kDebuggedGuest) {
    const std::string digits = hex;
    for (size_t i = 0; i < digits.size() / 2; ++i)
      image[offset + i] = static_cast<char>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
  }
  Code code;
  for (const char c : image) code.byte(static_cast<uint8_t>(c));
  return code;
}

}  // namespace wick::guests
