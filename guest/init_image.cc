#include "guest/init_image.h"

// The build links the program before it compiles this file, and defines WICK_GUEST_INIT as its
// path.
asm(".pushsection .rodata\n"
    ".balign 16\n"
    ".hidden wick_guest_init_start\n"
    ".hidden wick_guest_init_end\n"
    ".global wick_guest_init_start\n"
    ".global wick_guest_init_end\n"
    "wick_guest_init_start:\n"
    ".incbin \"" WICK_GUEST_INIT
    "\"\n"
    "wick_guest_init_end:\n"
    ".byte 0\n"
    ".popsection\n");

extern "C" {
extern const std::byte wick_guest_init_start[];
extern const std::byte wick_guest_init_end[];
}

namespace wick::guest {

std::span<const std::byte> init_image() { return {wick_guest_init_start, wick_guest_init_end}; }

}  // namespace wick::guest
