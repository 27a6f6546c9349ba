// The registers of a VGA, as plain values, and what its ports do with them.
//
// Thread rule: none; the caller locks.
//
// Specification: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem" (the
// sections named in the code); QEMU, docs/specs/standard-vga.rst (the display interface).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace wick::devices::vga {

// The ports. In monochrome emulation the CRT controller and Input Status 1 are at 0x3bx, otherwise
// at 0x3dx.
enum Port : uint16_t {
  kCrtcIndexMono = 0x3b4,
  kCrtcDataMono = 0x3b5,
  kInputStatus1Mono = 0x3ba,  // a write sets Feature Control
  kAttribute = 0x3c0,         // writes set the index and data in turn
  kAttributeData = 0x3c1,
  kInputStatus0 = 0x3c2,  // a write sets Miscellaneous Output
  kSequencerIndex = 0x3c4,
  kSequencerData = 0x3c5,
  kDacMask = 0x3c6,
  kDacReadIndex = 0x3c7,  // a read returns DAC State
  kDacWriteIndex = 0x3c8,
  kDacData = 0x3c9,
  kFeatureControl = 0x3ca,
  kMiscellaneousOutput = 0x3cc,
  kGraphicsIndex = 0x3ce,
  kGraphicsData = 0x3cf,
  kCrtcIndex = 0x3d4,
  kCrtcData = 0x3d5,
  kInputStatus1 = 0x3da,
};

// Indexes of the sequencer.
enum Sequencer : uint8_t {
  kClockingMode = 1,
  kMapMask = 2,
  kCharacterMapSelect = 3,
  kMemoryMode = 4
};
inline constexpr uint8_t kClock8Dots = 0x01, kClockHalf = 0x08, kScreenOff = 0x20;
inline constexpr uint8_t kChain4 = 0x08;  // a bit of kMemoryMode

// Indexes of the graphics controller.
enum Graphics : uint8_t {
  kSetReset = 0,
  kEnableSetReset = 1,
  kColorCompare = 2,
  kDataRotate = 3,
  kReadMapSelect = 4,
  kGraphicsMode = 5,
  kGraphicsMiscellaneous = 6,
  kColorDontCare = 7,
  kBitMask = 8,
};
inline constexpr uint8_t kReadMode1 = 0x08, kOddEven = 0x10, kShiftMode = 0x60;
// Bits of kGraphicsMiscellaneous.
inline constexpr uint8_t kGraphicsEnable = 0x01, kMemoryMap = 0x0c;

// Indexes of the CRT controller.
enum Crtc : uint8_t {
  kHorizontalDisplayEnd = 0x01,
  kOverflow = 0x07,
  kPresetRowScan = 0x08,
  kMaximumScanLine = 0x09,
  kCursorStart = 0x0a,
  kCursorEnd = 0x0b,
  kStartAddressHigh = 0x0c,
  kStartAddressLow = 0x0d,
  kCursorLocationHigh = 0x0e,
  kCursorLocationLow = 0x0f,
  kVerticalRetraceEnd = 0x11,
  kVerticalDisplayEnd = 0x12,
  kOffset = 0x13,
  kModeControl = 0x17,
  kLineCompare = 0x18,
};
inline constexpr uint8_t kProtect = 0x80;     // in kVerticalRetraceEnd: protects registers 0 to 7
inline constexpr uint8_t kDoubleScan = 0x80;  // a bit of kMaximumScanLine
inline constexpr uint8_t kCursorOff = 0x20;   // a bit of kCursorStart
// Bits of kModeControl. For compatibility with the CGA, bit 13 of the address comes from the row
// scan counter while kNoCgaBank is clear. For the Hercules card, bit 14 does while kNoHerculesBank
// is clear.
inline constexpr uint8_t kNoCgaBank = 0x01, kNoHerculesBank = 0x02, kByteMode = 0x40;

// Indexes of the attribute controller.
enum Attribute : uint8_t {
  kAttributeMode = 0x10,
  kOverscan = 0x11,
  kColorPlaneEnable = 0x12,
  kPixelPanning = 0x13,
  kColorSelect = 0x14,
};
inline constexpr uint8_t kLineGraphics = 0x04, kBlink = 0x08, kPanOnlyTop = 0x20,
                         kPaletteBits = 0x80;
inline constexpr uint8_t kPaletteSource = 0x20;  // a bit of the attribute index: the screen is on

inline constexpr uint8_t kColorEmulation = 0x01;  // a bit of Miscellaneous Output

// Indexes of Bochs' display interface.
enum Display : uint8_t {
  kDisplayId,
  kWidth,
  kHeight,
  kBitsPerPixel,
  kEnable,
  kBank,
  kVirtualWidth,
  kVirtualHeight,
  kOffsetX,
  kOffsetY,
  kVideoMemory64K,  // read-only: the video memory in units of 64 KiB
  kDisplayRegisters,
};
// Bits of kEnable.
inline constexpr uint16_t kEnabled = 0x01, kGetCapabilities = 0x02, kDac8Bits = 0x20,
                          kLinearFrameBuffer = 0x40, kNoClear = 0x80;

struct Dac {
  uint8_t mask = 0xff;
  uint8_t read_index = 0;
  uint8_t write_index = 0;
  uint8_t component = 0;  // the next component of the colour: 0 red, 1 green, 2 blue
  bool reading = false;   // the last index written was the read index
  std::array<uint8_t, 2> incomplete = {};  // red and green, until blue is written
  std::array<uint8_t, 768> colors = {};    // three bytes per colour, as written
  bool operator==(const Dac&) const = default;
};

// The guest-visible state, with its values at power-on.
struct State {
  uint8_t miscellaneous_output = 0;
  uint8_t feature_control = 0;
  uint8_t input_status_1 = 0;  // as the guest last read it
  uint8_t sequencer_index = 0;
  std::array<uint8_t, 8> sequencer = {};
  uint8_t crtc_index = 0;
  std::array<uint8_t, 25> crtc = {};
  uint8_t graphics_index = 0;
  std::array<uint8_t, 9> graphics = {};
  uint8_t attribute_index = 0;
  bool attribute_data = false;  // the flip-flop: the next write of kAttribute is data
  std::array<uint8_t, 21> attribute = {};
  Dac dac;
  uint32_t latches = 0;  // a byte for each plane; plane 0 is the lowest byte
  uint16_t display_index = 0;
  std::array<uint16_t, kVideoMemory64K> display = {0xb0c5};
  bool big_endian = false;  // the byte order of pixels of 15 bits and more

  bool operator==(const State&) const = default;
};

inline bool display_enabled(const State& state) { return (state.display[kEnable] & kEnabled) != 0; }

// A port outside of the VGA's ranges, or in the range of the other emulation (colour or
// monochrome), reads as 0xff.
uint8_t read_port(State& state, uint16_t port);
void write_port(State& state, uint16_t port, uint8_t value);

// Returns the name of a port, for statistics.
std::string_view port_name(uint16_t port, bool write);

}  // namespace wick::devices::vga
