// The types of registers in gdb's target description, as XML: the names of the bits in flags
// registers, and the element types as which a vector register can be shown.
//
// Specification: Debugging with GDB, appendix G.3; Intel SDM 3, 2.5 (CR0 to CR4), 2.2.1 (EFER);
// Intel SDM 1, 3.4.3 (EFLAGS), 10.2.3 (MXCSR); AMD APM 2, 3.1.7 (EFER).
#pragma once

namespace wick::debug {

// The types of the feature with eflags.
extern const char* const kCoreTypes;
// The types of the feature with xmm0 to xmm15 and mxcsr.
extern const char* const kSseTypes;
// The types of the feature with cr0 to efer.
extern const char* const kSystemTypes;

}  // namespace wick::debug
