#include "devices/vga/registers.h"

namespace wick::devices::vga {

namespace {

// The bits that each register has.
constexpr std::array<uint8_t, 8> kSequencerBits = {0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0};
constexpr std::array<uint8_t, 9> kGraphicsBits = {0x0f, 0x0f, 0x0f, 0x1f, 0x03,
                                                  0x7b, 0x0f, 0x0f, 0xff};
constexpr uint8_t kPaletteBits6 = 0x3f;
// For the registers from 0x10 on.
constexpr std::array<uint8_t, 5> kAttributeBits = {0xef, 0xff, 0x3f, 0x0f, 0x0f};

constexpr uint8_t kRetrace = 0x08, kNoDisplay = 0x01;  // bits of Input Status 1
constexpr uint8_t kReadState = 3, kWriteState = 0;     // values of DAC State

bool is_present(const State& state, uint16_t port) {
  const bool color = (state.miscellaneous_output & kColorEmulation) != 0;
  const uint16_t group = port & 0xfff0;
  return group == 0x3c0 || group == (color ? 0x3d0 : 0x3b0);
}

bool dac_has_8_bits(const State& state) { return (state.display[kEnable] & kDac8Bits) != 0; }

// "Video Digital-to-Analog Converter". The index goes up after each third component.
uint8_t read_color(State& state) {
  Dac& dac = state.dac;
  const uint8_t value = dac.colors[size_t{dac.read_index} * 3 + dac.component];
  if (++dac.component == 3) {
    dac.component = 0;
    ++dac.read_index;
  }
  return dac_has_8_bits(state) ? value : value & 0x3f;
}

// A colour changes when its third component is written.
void write_color(State& state, uint8_t value) {
  Dac& dac = state.dac;
  if (dac.component < 2) {
    dac.incomplete[dac.component++] = value;
    return;
  }
  const size_t first = size_t{dac.write_index} * 3;
  dac.colors[first] = dac.incomplete[0];
  dac.colors[first + 1] = dac.incomplete[1];
  dac.colors[first + 2] = value;
  dac.component = 0;
  ++dac.write_index;
}

// "Attribute Controller": one port takes index and data in turn.
void write_attribute(State& state, uint8_t value) {
  const uint8_t index = state.attribute_index & 0x1f;
  if (!state.attribute_data)
    state.attribute_index = value & 0x3f;
  else if (index < kAttributeMode)
    state.attribute[index] = value & kPaletteBits6;
  else if (index < state.attribute.size())
    state.attribute[index] = value & kAttributeBits[index - kAttributeMode];
  state.attribute_data = !state.attribute_data;
}

void write_crtc(State& state, uint8_t value) {
  const uint8_t index = state.crtc_index;
  if (index >= state.crtc.size()) return;
  uint8_t& reg = state.crtc[index];
  const bool is_protected = index <= kOverflow && (state.crtc[kVerticalRetraceEnd] & kProtect) != 0;
  // "Vertical Retrace End Register": the line compare bit of the overflow register is not
  // protected.
  const uint8_t writable = !is_protected ? 0xff : index == kOverflow ? 0x10 : 0;
  reg = static_cast<uint8_t>((reg & ~writable) | (value & writable));
}

// Programs wait for the beginning or the end of a retrace. Without a beam to follow, the retrace
// begins and ends at every second read, so that they never wait long.
uint8_t read_input_status_1(State& state) {
  state.attribute_data = false;
  state.input_status_1 ^= kRetrace | kNoDisplay;
  return state.input_status_1;
}

}  // namespace

uint8_t read_port(State& state, uint16_t port) {
  if (!is_present(state, port)) return 0xff;
  switch (port) {
    case kAttribute:
      return state.attribute_index;
    case kAttributeData: {
      const uint8_t index = state.attribute_index & 0x1f;
      return index < state.attribute.size() ? state.attribute[index] : uint8_t{0};
    }
    case kSequencerIndex:
      return state.sequencer_index;
    case kSequencerData:
      return state.sequencer[state.sequencer_index];
    case kDacMask:
      return state.dac.mask;
    case kDacReadIndex:
      return state.dac.reading ? kReadState : kWriteState;
    case kDacWriteIndex:
      return state.dac.write_index;
    case kDacData:
      return read_color(state);
    case kFeatureControl:
      return state.feature_control;
    case kMiscellaneousOutput:
      return state.miscellaneous_output;
    case kGraphicsIndex:
      return state.graphics_index;
    case kGraphicsData:
      return state.graphics_index < state.graphics.size() ? state.graphics[state.graphics_index]
                                                          : uint8_t{0};
    case kCrtcIndex:
    case kCrtcIndexMono:
      return state.crtc_index;
    case kCrtcData:
    case kCrtcDataMono:
      return state.crtc_index < state.crtc.size() ? state.crtc[state.crtc_index] : uint8_t{0};
    case kInputStatus1:
    case kInputStatus1Mono:
      return read_input_status_1(state);
    default:
      return 0;
  }
}

void write_port(State& state, uint16_t port, uint8_t value) {
  if (!is_present(state, port)) return;
  switch (port) {
    case kAttribute:
      return write_attribute(state, value);
    case kInputStatus0:
      state.miscellaneous_output = value & 0xef;
      return;
    case kSequencerIndex:
      state.sequencer_index = value & 0x07;
      return;
    case kSequencerData:
      state.sequencer[state.sequencer_index] = value & kSequencerBits[state.sequencer_index];
      return;
    case kDacMask:
      state.dac.mask = value;
      return;
    case kDacReadIndex:
      state.dac.read_index = value;
      state.dac.component = 0;
      state.dac.reading = true;
      return;
    case kDacWriteIndex:
      state.dac.write_index = value;
      state.dac.component = 0;
      state.dac.reading = false;
      return;
    case kDacData:
      return write_color(state, value);
    case kGraphicsIndex:
      state.graphics_index = value & 0x0f;
      return;
    case kGraphicsData:
      if (state.graphics_index < state.graphics.size())
        state.graphics[state.graphics_index] = value & kGraphicsBits[state.graphics_index];
      return;
    case kCrtcIndex:
    case kCrtcIndexMono:
      state.crtc_index = value;
      return;
    case kCrtcData:
    case kCrtcDataMono:
      return write_crtc(state, value);
    case kInputStatus1:
    case kInputStatus1Mono:
      state.feature_control = value & 0x10;
      return;
    default:
      return;
  }
}

std::string_view port_name(uint16_t port, bool write) {
  switch (port) {
    case kAttribute:
      return "attribute";
    case kAttributeData:
      return "attribute data";
    case kInputStatus0:
      return write ? "miscellaneous output" : "input status 0";
    case kSequencerIndex:
      return "sequencer index";
    case kSequencerData:
      return "sequencer data";
    case kDacMask:
      return "DAC mask";
    case kDacReadIndex:
      return write ? "DAC read index" : "DAC state";
    case kDacWriteIndex:
      return "DAC write index";
    case kDacData:
      return "DAC data";
    case kFeatureControl:
      return "feature control";
    case kMiscellaneousOutput:
      return "miscellaneous output";
    case kGraphicsIndex:
      return "graphics index";
    case kGraphicsData:
      return "graphics data";
    case kCrtcIndex:
    case kCrtcIndexMono:
      return "CRTC index";
    case kCrtcData:
    case kCrtcDataMono:
      return "CRTC data";
    case kInputStatus1:
    case kInputStatus1Mono:
      return write ? "feature control" : "input status 1";
    default:
      return {};
  }
}

}  // namespace wick::devices::vga
