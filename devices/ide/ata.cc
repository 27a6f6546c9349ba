#include "devices/ide/ata.h"

#include <algorithm>

namespace wick::devices::ata {

namespace {

constexpr std::string_view kFirmware = "1";

// "SET FEATURES", transfer modes: the upper bits have the kind, the lower the number.
constexpr uint8_t kPioFlowControl = 0x08;
constexpr uint8_t kMultiwordDma = 0x20;
constexpr uint8_t kUltraDma = 0x40;
constexpr uint8_t kModeBits = 0x07;

constexpr uint16_t kDmaModes = 0x07;       // modes 0 to 2, multiword and Ultra DMA alike
constexpr uint16_t kMaxCylinders = 16383;  // "IDENTIFY DEVICE", words 1 and 54
constexpr uint64_t kMaxLba28 = 0x0fff'ffff;

// Bits of the words 82 to 84 (supported) and 85 to 87 (enabled) of IDENTIFY DEVICE.
constexpr uint16_t kAlways = 1 << 14;
constexpr uint16_t kHasNop = 1 << 14;
constexpr uint16_t kHasDeviceReset = 1 << 9;
constexpr uint16_t kHasLookAhead = 1 << 6;
constexpr uint16_t kHasWriteCache = 1 << 5;
constexpr uint16_t kHasPacket = 1 << 4;
constexpr uint16_t kHasPowerManagement = 1 << 3;
constexpr uint16_t kHasFlushCacheExt = 1 << 13;
constexpr uint16_t kHasFlushCache = 1 << 12;
constexpr uint16_t kHas48Bits = 1 << 10;

// Writes text, two characters per word, the first in the upper half, padded with blanks.
void put_text(IdentityWords& words, size_t first, size_t count, std::string_view text) {
  const auto at = [&](size_t i) {
    return static_cast<uint16_t>(i < text.size() ? static_cast<unsigned char>(text[i]) : ' ');
  };
  for (size_t i = 0; i < count; ++i)
    words[first + i] = static_cast<uint16_t>(at(2 * i) << 8 | at(2 * i + 1));
}

void put_number(IdentityWords& words, size_t first, size_t count, uint64_t number) {
  for (size_t i = 0; i < count; ++i, number >>= 16)
    words[first + i] = static_cast<uint16_t>(number);
}

uint16_t dma_word(uint8_t kind, uint8_t transfer_mode) {
  const bool chosen = (transfer_mode & ~kModeBits) == kind;
  return static_cast<uint16_t>(kDmaModes | (chosen ? 0x100u << (transfer_mode & kModeBits) : 0u));
}

// Writes the words that both kinds of drive share.
void put_common(IdentityWords& words, const Identity& identity) {
  put_text(words, 10, 10, identity.serial);
  put_text(words, 23, 4, kFirmware);
  put_text(words, 27, 20, identity.model);
  words[49] = 1 << 11 | 1 << 9 | 1 << 8;  // has IORDY, LBA and DMA
  words[50] = kAlways;
  words[53] = 1 << 2 | 1 << 1 | 1 << 0;  // words 88, 64 to 70 and 54 to 58 are valid
  words[63] = dma_word(kMultiwordDma, identity.transfer_mode);
  words[64] = 0x03;  // PIO modes 3 and 4 are supported
  // Cycle times in nanoseconds: multiword DMA (minimum, recommended), PIO (without and with IORDY).
  for (size_t word = 65; word <= 68; ++word) words[word] = 120;
  words[80] = 1 << 6 | 1 << 5 | 1 << 4;  // complies with ATA/ATAPI-4 to 6
  words[83] = words[84] = words[87] = kAlways;
  words[88] = dma_word(kUltraDma, identity.transfer_mode);
  // A reset found no fault, the device number is set by a jumper, and the cable
  // has 80 conductors.
  words[93] = identity.second_device ? 0x6b00 : 0x600b;
}

// Word 255: the checksum makes the sum of all bytes 0.
void put_checksum(IdentityWords& words) {
  uint8_t sum = 0xa5;
  for (size_t i = 0; i < 255; ++i) sum = static_cast<uint8_t>(sum + words[i] + (words[i] >> 8));
  words[255] = static_cast<uint16_t>(static_cast<uint8_t>(-sum) << 8 | 0xa5);
}

}  // namespace

bool is_transfer_mode(uint8_t mode) {
  if (mode <= 0x01) return true;  // the default PIO mode
  const int number = mode & kModeBits;
  switch (mode & ~kModeBits) {
    case kPioFlowControl:
      return number <= 4;
    case kMultiwordDma:
    case kUltraDma:
      return (1 << number & kDmaModes) != 0;
    default:
      return false;
  }
}

Geometry geometry(uint64_t capacity_sectors, uint8_t heads, uint8_t sectors) {
  const uint64_t cylinders = capacity_sectors / (uint64_t{heads} * sectors);
  return {static_cast<uint16_t>(std::min<uint64_t>(cylinders, kMaxCylinders)), heads, sectors};
}

IdentityWords identify_disk(const Identity& identity) {
  IdentityWords words{};
  put_common(words, identity);
  const Geometry whole = geometry(identity.capacity_sectors, Geometry().heads, Geometry().sectors);
  words[0] = 1 << 6;  // a device that is not removable
  words[1] = whole.cylinders;
  words[3] = whole.heads;
  words[6] = whole.sectors;
  words[47] = 0x8000 | kMaxMultiple;
  words[54] = identity.translation.cylinders;
  words[55] = identity.translation.heads;
  words[56] = identity.translation.sectors;
  put_number(words, 57, 2, identity.translation.total());
  if (identity.multiple != 0) words[59] = static_cast<uint16_t>(1 << 8 | identity.multiple);
  put_number(words, 60, 2, std::min(identity.capacity_sectors, kMaxLba28));
  words[82] = kHasNop | kHasLookAhead | kHasWriteCache | kHasPowerManagement;
  words[83] = kAlways | kHasFlushCacheExt | kHasFlushCache | kHas48Bits;
  words[85] = words[82];
  if (!identity.look_ahead) words[85] &= static_cast<uint16_t>(~kHasLookAhead);
  if (!identity.write_cache) words[85] &= static_cast<uint16_t>(~kHasWriteCache);
  words[86] = kHasFlushCacheExt | kHasFlushCache | kHas48Bits;
  put_number(words, 100, 4, identity.capacity_sectors);
  put_checksum(words);
  return words;
}

IdentityWords identify_cdrom(const Identity& identity) {
  IdentityWords words{};
  put_common(words, identity);
  // A packet device of type CD-ROM with removable media. It sets DRQ within 50
  // microseconds of PACKET, without an interrupt, and packets have 12 bytes.
  words[0] = 2 << 14 | 5 << 8 | 1 << 7 | 2 << 5;
  words[53] &= static_cast<uint16_t>(~1);
  words[82] = kHasNop | kHasDeviceReset | kHasPacket | kHasPowerManagement;
  words[85] = words[82];
  put_checksum(words);
  return words;
}

}  // namespace wick::devices::ata
