// The data by which a monitor describes itself: EDID 1.4, one block.
//
// Specification: VESA Enhanced EDID Standard, Release A, Revision 2 (the sections named in the
// code).
#pragma once

#include <array>
#include <cstddef>

namespace wick::devices::vga {

inline constexpr size_t kEdidBytes = 128;

// Returns the EDID of a monitor "wick" that prefers 1280x800.
std::array<std::byte, kEdidBytes> make_edid();

}  // namespace wick::devices::vga
