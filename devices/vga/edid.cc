#include "devices/vga/edid.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace wick::devices::vga {

namespace {

using Block = std::array<std::byte, kEdidBytes>;

constexpr size_t kDescriptorBytes = 18;

void put(Block& block, size_t offset, std::initializer_list<uint8_t> bytes) {
  for (const uint8_t byte : bytes) block[offset++] = std::byte{byte};
}

// A detailed timing (3.10.2). Horizontal sizes are in pixels, vertical sizes in lines. The blank
// part includes the front porch, where it begins, and the sync pulse.
struct Timing {
  uint32_t clock_10khz = 0;
  uint32_t width = 0, horizontal_blank = 0, horizontal_front = 0, horizontal_sync = 0;
  uint32_t height = 0, vertical_blank = 0, vertical_front = 0, vertical_sync = 0;
  uint32_t width_mm = 0, height_mm = 0;
  uint8_t flags = 0;
};

constexpr uint8_t kDigitalSeparateSync = 0x18, kHorizontalSyncPositive = 0x02;

// VESA CVT 1.1 with reduced blanking, 59.9 Hz, on a screen of 96 dots per inch.
constexpr Timing kPreferred = {.clock_10khz = 7100,
                               .width = 1280,
                               .horizontal_blank = 160,
                               .horizontal_front = 48,
                               .horizontal_sync = 32,
                               .height = 800,
                               .vertical_blank = 23,
                               .vertical_front = 3,
                               .vertical_sync = 6,
                               .width_mm = 339,
                               .height_mm = 212,
                               .flags = kDigitalSeparateSync | kHorizontalSyncPositive};

void put_timing(Block& block, size_t offset, const Timing& t) {
  const auto low = [](uint32_t value) { return static_cast<uint8_t>(value); };
  // The upper four bits of two numbers of 12 bits.
  const auto high = [](uint32_t first, uint32_t second) {
    return static_cast<uint8_t>((first >> 8 & 0x0f) << 4 | (second >> 8 & 0x0f));
  };
  put(block, offset,
      {low(t.clock_10khz), low(t.clock_10khz >> 8), low(t.width), low(t.horizontal_blank),
       high(t.width, t.horizontal_blank), low(t.height), low(t.vertical_blank),
       high(t.height, t.vertical_blank), low(t.horizontal_front), low(t.horizontal_sync),
       low(t.vertical_front << 4 | t.vertical_sync), 0, low(t.width_mm), low(t.height_mm),
       high(t.width_mm, t.height_mm), 0, 0, t.flags});
}

// Tags of a descriptor that is not a timing (3.10.3).
constexpr uint8_t kName = 0xfc, kDummy = 0x10;

// Writes a descriptor that is not a timing. Its text ends with a line feed and is padded with
// spaces.
void put_descriptor(Block& block, size_t offset, uint8_t tag, std::string_view text) {
  put(block, offset, {0, 0, 0, tag, 0});
  if (text.empty()) return;
  const auto field = block.begin() + static_cast<std::ptrdiff_t>(offset) + 5;
  std::fill(field, field + 13, std::byte{' '});
  std::ranges::transform(text, field, [](char c) { return static_cast<std::byte>(c); });
  field[static_cast<std::ptrdiff_t>(text.size())] = std::byte{'\n'};
}

}  // namespace

Block make_edid() {
  Block block{};
  put(block, 0, {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00});
  // 3.4: the manufacturer "WCK", five bits per letter; product 1, made in 2024.
  put(block, 8, {0x5c, 0x6b, 0x01, 0x00, 0, 0, 0, 0, 0, 2024 - 1990});
  put(block, 18, {1, 4});
  // 3.6: digital, 8 bits per colour; 34 x 21 cm; gamma 2.2; sRGB; the preferred timing is native.
  put(block, 20, {0xa0, 34, 21, 120, 0x06});
  // 3.7: the primaries of sRGB.
  put(block, 25, {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54});
  // 3.8: 640x480, 800x600 and 1024x768 at 60 Hz.
  put(block, 35, {0x21, 0x08, 0x00});
  // 3.9, at 60 Hz: 1280x1024, 1440x900, 1600x1200, 1680x1050, 1920x1080, 1920x1200.
  put(block, 38, {0x81, 0x80, 0x95, 0x00, 0xa9, 0x40, 0xb3, 0x00, 0xd1, 0xc0, 0xd1, 0x00});
  put(block, 50, {0x01, 0x01, 0x01, 0x01});  // two timings that are not used
  constexpr size_t kFirst = 54;
  put_timing(block, kFirst, kPreferred);
  put_descriptor(block, kFirst + kDescriptorBytes, kName, "wick");
  put_descriptor(block, kFirst + 2 * kDescriptorBytes, kDummy, {});
  put_descriptor(block, kFirst + 3 * kDescriptorBytes, kDummy, {});
  // 3.11: no extension; the sum of all bytes is 0.
  uint8_t sum = 0;
  for (const std::byte byte : block) sum = static_cast<uint8_t>(sum + std::to_integer<int>(byte));
  block[kEdidBytes - 1] = std::byte{static_cast<uint8_t>(-sum)};
  return block;
}

}  // namespace wick::devices::vga
