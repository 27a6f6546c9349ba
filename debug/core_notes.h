// The notes of a core. For each vCPU there are two notes with its registers: one as the kernel
// writes it for a process (NT_PRSTATUS), and one as QEMU writes it, with the control registers. The
// guest's vmcoreinfo note follows, if there is one.
//
// Thread rule: any thread; pure functions.
// Specification: ELF-64 Object File Format 1.5, "Note Section"; NT_PRSTATUS: core(5),
// <sys/procfs.h>; QEMU's note: its version 1, which crash reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "debug/vmcoreinfo.h"
#include "vmm/inspector.h"

namespace wick::debug {

struct CoreCpu {
  vmm::CpuRegisters registers;
  uint64_t kernel_gs_base = 0;  // MSR 0xc0000102
};

// The layout of NT_PRSTATUS: the kernel's for EM_X86_64 or for EM_386.
enum class NoteLayout { kX86_64, kI386 };

// Returns kX86_64 if the first vCPU is in long mode, else kI386, as QEMU does.
NoteLayout layout_for(std::span<const CoreCpu> cpus);

// Returns all notes in QEMU's order. The last one is `guest`; nullptr: the guest has given no note.
std::vector<std::byte> core_notes(std::span<const CoreCpu> cpus, NoteLayout layout,
                                  const GuestNote* guest);

}  // namespace wick::debug
