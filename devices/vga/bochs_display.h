// Bochs' display interface: registers of 16 bits that set a mode with a linear frame buffer,
// without a mode table of a BIOS.
//
// If the guest enables a mode that the card does not have, or that needs more video memory than
// there is, the mode is not entered, and the bit kEnabled stays clear. While a mode is on, the
// registers always describe a mode that fits.
//
// Thread rule: none; the caller locks.
//
// Specification: Bochs, docs "VBE DISPI interface" (iodev/display/vbe.h);
// QEMU, docs/specs/standard-vga.rst.
#pragma once

#include <cstdint>

#include "devices/vga/registers.h"

namespace wick::devices::vga {

struct DisplayMode {
  uint32_t width = 0, height = 0;  // in pixels
  uint32_t bits_per_pixel = 0;     // 4, 8, 15, 16, 24 or 32
  uint64_t line_bytes = 0;         // from one line to the next
  uint64_t start_bytes = 0;        // where the first pixel is in the video memory
};

// Returns the mode that the registers describe. Valid only while the display is enabled.
DisplayMode display_mode(const State& state);

// Returns the value of a register; 0 for a register that does not exist.
uint16_t read_display(const State& state, uint16_t index, uint64_t vram_bytes);

// Writes a register. Returns how many bytes from the beginning of the video memory must be cleared.
uint64_t write_display(State& state, uint16_t index, uint16_t value, uint64_t vram_bytes);

}  // namespace wick::devices::vga
