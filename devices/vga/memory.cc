#include "devices/vga/memory.h"

#include <bit>
#include <optional>

namespace wick::devices::vga {

namespace {

constexpr uint8_t kOddPlanes = 0x0a, kEvenPlanes = 0x05;

// Returns the address that an offset in the window leads to, by the present memory map and bank;
// nullopt if the memory map does not use the offset.
std::optional<uint64_t> mapped(const State& state, uint64_t offset) {
  const uint64_t bank = display_enabled(state) ? uint64_t{state.display[kBank]} << 16 : 0;
  switch (state.graphics[kGraphicsMiscellaneous] & kMemoryMap) {
    case 0x00:
      return offset;
    case 0x04:
      if (offset < 0x10000) return offset + bank;
      break;
    case 0x08:
      if (offset >= 0x10000 && offset < 0x18000) return offset - 0x10000;
      break;
    default:
      if (offset >= 0x18000) return offset - 0x18000;
      break;
  }
  return std::nullopt;
}

bool is_chain4(const State& state) { return (state.sequencer[kMemoryMode] & kChain4) != 0; }
bool is_odd_even(const State& state) { return (state.graphics[kGraphicsMode] & kOddEven) != 0; }

// Expands a bit for each plane to 8 bits for each plane.
uint32_t expand(uint8_t planes) {
  return (planes & 1 ? 0x000000ffu : 0) | (planes & 2 ? 0x0000ff00u : 0) |
         (planes & 4 ? 0x00ff0000u : 0) | (planes & 8 ? 0xff000000u : 0);
}

// Returns the same byte for each plane.
uint32_t repeat(uint8_t value) { return value * 0x01010101u; }

uint8_t rotated(const State& state, uint8_t value) {
  return std::rotr(value, state.graphics[kDataRotate] & 7);
}

// Combines the data with the latches, by the logical function of "Data Rotate".
uint32_t combine(const State& state, uint32_t data) {
  switch (state.graphics[kDataRotate] >> 3 & 3) {
    case 1:
      return data & state.latches;
    case 2:
      return data | state.latches;
    case 3:
      return data ^ state.latches;
    default:
      return data;
  }
}

// Returns the data of the four planes that the write mode ("Graphics Mode") makes of a byte.
uint32_t written_data(const State& state, uint8_t value) {
  const auto& graphics = state.graphics;
  const uint32_t set_reset = expand(graphics[kSetReset]);
  uint8_t bit_mask = graphics[kBitMask];
  uint32_t data = 0;
  switch (graphics[kGraphicsMode] & 3) {
    case 0: {
      const uint32_t enabled = expand(graphics[kEnableSetReset]);
      data = (repeat(rotated(state, value)) & ~enabled) | (set_reset & enabled);
      break;
    }
    case 1:
      return state.latches;
    case 2:
      data = expand(value & 0x0f);
      break;
    default:
      bit_mask &= rotated(state, value);
      data = set_reset;
      break;
  }
  const uint32_t mask = repeat(bit_mask);
  return (combine(state, data) & mask) | (state.latches & ~mask);
}

// Returns the byte of read mode 1: a bit is set where the latches have the colour of "Color
// Compare", in all planes that "Color Don't Care" selects.
uint8_t compare(const State& state) {
  const uint32_t differing = (state.latches ^ expand(state.graphics[kColorCompare])) &
                             expand(state.graphics[kColorDontCare]);
  return static_cast<uint8_t>(~(differing | differing >> 8 | differing >> 16 | differing >> 24));
}

}  // namespace

uint8_t read_window(State& state, const Vram& vram, uint64_t offset) {
  const auto address = mapped(state, offset);
  if (!address) return 0xff;
  if (is_chain4(state)) {
    state.latches = vram.load_planes(*address / 4);
    return vram.load_byte(*address);
  }
  uint8_t plane = state.graphics[kReadMapSelect];
  uint64_t plane_address = *address;
  if (is_odd_even(state)) {
    plane = static_cast<uint8_t>((plane & 2) | (*address & 1));
    plane_address /= 2;
  }
  state.latches = vram.load_planes(plane_address);
  if ((state.graphics[kGraphicsMode] & kReadMode1) != 0) return compare(state);
  return static_cast<uint8_t>(state.latches >> 8 * plane);
}

void write_window(const State& state, Vram& vram, uint64_t offset, uint8_t value) {
  const auto address = mapped(state, offset);
  if (!address) return;
  uint8_t planes = state.sequencer[kMapMask];
  if (is_chain4(state)) {
    // Writes bypass the graphics controller here, because some BIOSes leave its registers as the
    // last mode needed them.
    if ((planes >> (*address & 3) & 1) != 0) vram.store_byte(*address, value);
    return;
  }
  uint64_t plane_address = *address;
  if (is_odd_even(state)) {
    planes &= (*address & 1) != 0 ? kOddPlanes : kEvenPlanes;
    plane_address /= 2;
  }
  const uint32_t mask = expand(planes);
  const uint32_t before = vram.load_planes(plane_address);
  vram.store_planes(plane_address, (before & ~mask) | (written_data(state, value) & mask));
}

}  // namespace wick::devices::vga
