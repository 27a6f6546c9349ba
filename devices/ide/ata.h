// The words of ATA: registers, status bits and commands as an IDE drive and its
// host use them, and what a drive says about itself.
//
// Plain values and pure functions; no thread rule.
//
// Specification: ATA/ATAPI-6 (T13/1410D revision 3b), clauses 7 and 8, cited in
// devices/ide*, devices/ata* by the titles of its subclauses.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace wick::devices::ata {

constexpr uint32_t kSectorBytes = 512;
constexpr uint32_t kIdentityBytes = 512;

// Offsets in the command block; where two names meet, one is read and one written.
enum Port : uint8_t {
  kData = 0,
  kErrorOrFeatures = 1,
  kSectorCount = 2,  // the interrupt reason of a packet command
  kLbaLow = 3,
  kLbaMid = 4,  // the byte count of a packet command, with the next
  kLbaHigh = 5,
  kDevice = 6,
  kStatusOrCommand = 7,
};

// "Status register". Bit 4 is left to each command there; it is set as every
// drive does, "seek complete".
constexpr uint8_t kBusy = 1 << 7;
constexpr uint8_t kReady = 1 << 6;
constexpr uint8_t kFault = 1 << 5;
constexpr uint8_t kSeekComplete = 1 << 4;
constexpr uint8_t kDataRequest = 1 << 3;
constexpr uint8_t kError = 1 << 0;
constexpr uint8_t kIdleStatus = kReady | kSeekComplete;

// "Error register".
constexpr uint8_t kUncorrectable = 1 << 6;
constexpr uint8_t kIdNotFound = 1 << 4;
constexpr uint8_t kAborted = 1 << 2;
constexpr uint8_t kDiagnosticPassed = 0x01;  // after a reset or a diagnostic

// "Device register"; bits 5 and 7 are obsolete and read as ones.
constexpr uint8_t kDeviceOnes = 0xa0;
constexpr uint8_t kUseLba = 1 << 6;
constexpr uint8_t kSecondDevice = 1 << 4;
constexpr uint8_t kHeadBits = 0x0f;

// "Device Control register".
constexpr uint8_t kHighOrderByte = 1 << 7;
constexpr uint8_t kSoftwareReset = 1 << 2;
constexpr uint8_t kInterruptsOff = 1 << 1;

// "PACKET": the interrupt reason, and what the features register asks for.
constexpr uint8_t kReasonCommand = 1 << 0;  // or else data
constexpr uint8_t kReasonToHost = 1 << 1;
constexpr uint8_t kPacketDma = 1 << 0;

// Those with "without retry", of opcode + 1, are of older standards.
enum Command : uint8_t {
  kNop = 0x00,
  kDeviceReset = 0x08,
  kRecalibrate = 0x10,
  kReadSectors = 0x20,
  kReadSectorsExt = 0x24,
  kReadDmaExt = 0x25,
  kReadNativeMaxExt = 0x27,
  kReadMultipleExt = 0x29,
  kWriteSectors = 0x30,
  kWriteSectorsExt = 0x34,
  kWriteDmaExt = 0x35,
  kWriteMultipleExt = 0x39,
  kVerify = 0x40,
  kVerifyExt = 0x42,
  kSeek = 0x70,
  kDiagnostic = 0x90,
  kInitializeParameters = 0x91,
  kPacket = 0xa0,
  kIdentifyPacketDevice = 0xa1,
  kReadMultiple = 0xc4,
  kWriteMultiple = 0xc5,
  kSetMultiple = 0xc6,
  kReadDma = 0xc8,
  kWriteDma = 0xca,
  kStandbyImmediate = 0xe0,
  kIdleImmediate = 0xe1,
  kStandby = 0xe2,
  kIdle = 0xe3,
  kCheckPowerMode = 0xe5,
  kSleep = 0xe6,
  kFlushCache = 0xe7,
  kFlushCacheExt = 0xea,
  kIdentifyDevice = 0xec,
  kSetFeatures = 0xef,
  kReadNativeMax = 0xf8,
};

// "SET FEATURES".
constexpr uint8_t kEnableWriteCache = 0x02;
constexpr uint8_t kSetTransferMode = 0x03;
constexpr uint8_t kDisableLookAhead = 0x55;
constexpr uint8_t kKeepFeaturesAtReset = 0x66;
constexpr uint8_t kDisableWriteCache = 0x82;
constexpr uint8_t kEnableLookAhead = 0xaa;
constexpr uint8_t kRevertFeaturesAtReset = 0xcc;

// Sectors in one data block of READ and WRITE MULTIPLE, at most.
constexpr uint8_t kMostMultiple = 16;

// The modes of transfer that a drive knows: PIO 0 to 4, multiword DMA 0 to 2 and
// Ultra DMA 0 to 2, all of them as fast as the host. `mode` as SET FEATURES has it.
bool is_transfer_mode(uint8_t mode);

// How a disk's sectors were numbered by cylinder, head and sector.
struct Geometry {
  uint16_t cylinders = 0;
  uint8_t heads = 16;
  uint8_t sectors = 63;  // on a track; counted from 1
  uint32_t total() const { return uint32_t{cylinders} * heads * sectors; }
  bool operator==(const Geometry&) const = default;
};

// As many cylinders as `capacity_sectors` has with that many heads and sectors
// on a track, neither of which is 0; at most what IDENTIFY DEVICE can say.
Geometry geometry(uint64_t capacity_sectors, uint8_t heads, uint8_t sectors);

// What IDENTIFY DEVICE and IDENTIFY PACKET DEVICE tell.
struct Identity {
  std::string serial;  // 20 characters of it
  std::string_view model;
  uint64_t capacity_sectors = 0;  // of a disk
  Geometry translation;           // the current one
  uint8_t multiple = 0;           // of READ and WRITE MULTIPLE; 0: not set
  uint8_t transfer_mode = 0;
  bool write_cache = true;
  bool look_ahead = true;
  bool second_device = false;
};

using IdentityWords = std::array<uint16_t, kIdentityBytes / 2>;

IdentityWords identify_disk(const Identity& identity);
IdentityWords identify_cdrom(const Identity& identity);

}  // namespace wick::devices::ata
