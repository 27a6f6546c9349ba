// The window at 0xa0000: how the graphics controller and the sequencer translate an access of the
// CPU to accesses of the planes.
//
// Thread rule: none; the caller locks.
//
// Specification: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", "Graphics
// Controller Registers" and "Sequencer Registers".
#pragma once

#include <cstdint>

#include "devices/vga/registers.h"
#include "devices/vga/vram.h"

namespace wick::devices::vga {

inline constexpr uint64_t kWindowBytes = 0x20000;

// `offset` counts from 0xa0000. A part of the window that the memory map does not use reads as 0xff
// and ignores writes.
uint8_t read_window(State& state, const Vram& vram, uint64_t offset);
void write_window(const State& state, Vram& vram, uint64_t offset, uint8_t value);

}  // namespace wick::devices::vga
