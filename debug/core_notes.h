// The notes of a core: for each vCPU its registers as the kernel writes them for a process
// (NT_PRSTATUS), and as QEMU writes them, with the control registers; and the note that the guest
// has given.
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
  uint64_t kernel_gs_base = 0;  // the MSR 0xc0000102
};

// The layout of NT_PRSTATUS: that of the kernel's for EM_X86_64 or for EM_386.
enum class NoteLayout { kX86_64, kI386 };

// As in QEMU, the mode of the first vCPU decides: kX86_64 if it is in long mode.
NoteLayout layout_for(std::span<const CoreCpu> cpus);

// The notes in QEMU's order. The guest's own, if it is given, is the last.
std::vector<std::byte> core_notes(std::span<const CoreCpu> cpus, NoteLayout layout,
                                  const GuestNote* guest);

}  // namespace wick::debug
