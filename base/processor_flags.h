// The bits of x86's flags and control registers by the kernel's names: X86_EFLAGS_*, X86_CR0_*,
// X86_CR4_*, and those of the EFER register.
//
// Thread rule: none; constants.
// Specification: Intel SDM 3, 2.5 (CR0, CR4), 2.2.1 (IA32_EFER).
#pragma once

#include <asm/processor-flags.h>

#include <cstdint>

namespace wick {

// Names and values are those of the kernel's own msr-index.h, which is not installed for programs.
inline constexpr uint64_t EFER_LME = 1 << 8;   // long mode enable
inline constexpr uint64_t EFER_LMA = 1 << 10;  // long mode active

}  // namespace wick
