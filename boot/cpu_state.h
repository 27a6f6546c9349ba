// The initial registers of a vCPU as plain values: boot/ computes them, vmm/ loads them with
// KVM. The functions also write the tables that the registers point to.
//
// Specification: Intel SDM 3, 2.5 (control registers), 3.4.5 (segment
// descriptors), 4.5 (4-level paging).
#pragma once

#include <cstdint>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::boot {

// A segment register with its hidden part.
struct Segment {
  uint64_t base = 0;
  uint32_t limit = 0;  // in bytes, whatever `g` is
  uint16_t selector = 0;
  uint8_t type = 0;
  uint8_t present = 0;
  uint8_t dpl = 0;
  uint8_t db = 0;  // 1: 32-bit code or data
  uint8_t s = 0;   // 1: code or data, 0: system segment
  uint8_t l = 0;   // 1: 64-bit code
  uint8_t g = 0;   // 1: the limit in the descriptor counts pages
  bool operator==(const Segment&) const = default;
};

struct DescriptorTable {
  uint64_t base = 0;
  uint16_t limit = 0;
  bool operator==(const DescriptorTable&) const = default;
};

struct CpuState {
  uint64_t rip = 0;
  uint64_t rax = 0;
  uint64_t rsp = 0;
  uint64_t rbp = 0;
  uint64_t rsi = 0;
  uint64_t rbx = 0;
  uint64_t rflags = 0;
  uint64_t cr0 = 0;
  uint64_t cr3 = 0;
  uint64_t cr4 = 0;
  uint64_t efer = 0;
  Segment cs, ds, es, fs, gs, ss, tr;
  DescriptorTable gdt;
  DescriptorTable idt;  // empty: an exception before the kernel loads an IDT is a triple fault
};

// Returns the state for the 64-bit entry of Linux (boot.rst, "64-bit Boot Protocol"): long mode,
// the first 4 GiB mapped to themselves, interrupts off, and the address of the zero page in rsi.
// With `five_level_paging` the page tables have five levels (SDM 3, 4.5); a kernel that finds five
// levels keeps them. Writes the page tables and the GDT into `memory`.
Result<CpuState> linux_64bit_entry(const GuestMemory& memory, GuestAddress entry,
                                   GuestAddress zero_page, bool five_level_paging = false);

// Returns the state for the 32-bit entry of Linux (boot.rst, "32-bit Boot Protocol"): protected
// mode, no paging, interrupts off, and the address of the zero page in esi; ebp, edi and ebx are 0.
// Writes the GDT into `memory`.
Result<CpuState> linux_32bit_entry(const GuestMemory& memory, GuestAddress entry,
                                   GuestAddress zero_page);

// Returns the state for real mode at a physical address below 1 MiB, where firmware continues an
// operating system after S3 (ACPI 6.5, 5.2.10, "Firmware Waking Vector").
CpuState real_mode_entry(GuestAddress entry);

// Returns the state for the PVH entry (Xen, docs/misc/pvh.pandoc): 32-bit protected mode, no
// paging, interrupts off, and the address of the hvm_start_info in ebx. Writes the GDT into
// `memory`.
Result<CpuState> pvh_entry(const GuestMemory& memory, GuestAddress entry, GuestAddress start_info);

// Returns the state for the entry of a Multiboot kernel (Multiboot 0.6.96, 3.2). It is that of the
// PVH entry, but with `magic` in eax and the address of the information structure in ebx.
Result<CpuState> multiboot_entry(const GuestMemory& memory, GuestAddress entry, GuestAddress info,
                                 uint32_t magic);

}  // namespace wick::boot
