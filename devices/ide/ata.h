// The definitions of ATA: registers, status bits, commands, and the contents of
// IDENTIFY DEVICE.
//
// Plain values and pure functions; no thread rule.
//
// Specification: ATA/ATAPI-6 (T13/1410D revision 3b), clauses 7 and 8. The code in
// devices/ide/ cites it by the titles of its subclauses, in quotation marks.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace wick::devices::ata {

constexpr uint32_t kSectorBytes = 512;
constexpr uint32_t kIdentityBytes = 512;

// Offsets in the command block. A name with "Or" names two registers at one offset: the first is
// read, the second is written.
enum Port : uint8_t {
  kData = 0,
  kErrorOrFeatures = 1,
  kSectorCount = 2,  // for a packet command: the interrupt reason
  kLbaLow = 3,
  kLbaMid = 4,  // for a packet command: the byte count, with kLbaHigh
  kLbaHigh = 5,
  kDevice = 6,
  kStatusOrCommand = 7,
};

// "Status register". The standard leaves the meaning of bit 4 to each command. Here, as in all
// drives, bit 4 is "seek complete".
constexpr uint8_t kBusy = 1 << 7;
constexpr uint8_t kReady = 1 << 6;
constexpr uint8_t kFault = 1 << 5;
constexpr uint8_t kSeekComplete = 1 << 4;
constexpr uint8_t kDataRequest = 1 << 3;
constexpr uint8_t kError = 1 << 0;
constexpr uint8_t kIdleStatus = kReady | kSeekComplete;

// Bits of the error register ("Error register").
constexpr uint8_t kUncorrectable = 1 << 6;
constexpr uint8_t kIdNotFound = 1 << 4;
constexpr uint8_t kAborted = 1 << 2;
constexpr uint8_t kDiagnosticPassed = 0x01;  // after a reset or a diagnostic

// Bits of the device register ("Device register"). Bits 5 and 7 are obsolete and read as ones.
constexpr uint8_t kDeviceOnes = 0xa0;
constexpr uint8_t kUseLba = 1 << 6;
constexpr uint8_t kSecondDevice = 1 << 4;
constexpr uint8_t kHeadBits = 0x0f;

// Bits of the device control register ("Device Control register").
constexpr uint8_t kHighOrderByte = 1 << 7;
constexpr uint8_t kSoftwareReset = 1 << 2;
constexpr uint8_t kInterruptsOff = 1 << 1;

// "PACKET": bits of the interrupt reason (C/D and I/O) and of the features register.
constexpr uint8_t kReasonCommand = 1 << 0;  // C/D: 1: packet or status, 0: data
constexpr uint8_t kReasonToHost = 1 << 1;   // I/O: the drive sends to the host
constexpr uint8_t kPacketDma = 1 << 0;      // features: transfer the data by DMA

// Older standards have "without retry" variants of some commands, at opcode + 1.
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

// Subcommands of SET FEATURES.
constexpr uint8_t kEnableWriteCache = 0x02;
constexpr uint8_t kSetTransferMode = 0x03;
constexpr uint8_t kDisableLookAhead = 0x55;
constexpr uint8_t kKeepFeaturesAtReset = 0x66;
constexpr uint8_t kDisableWriteCache = 0x82;
constexpr uint8_t kEnableLookAhead = 0xaa;
constexpr uint8_t kRevertFeaturesAtReset = 0xcc;

// The maximum number of sectors in a data block of READ and WRITE MULTIPLE.
constexpr uint8_t kMaxMultiple = 16;

// Returns true if `mode`, in the encoding of SET FEATURES, is supported: PIO 0 to 4,
// multiword DMA 0 to 2 and Ultra DMA 0 to 2. The mode has no effect on speed.
bool is_transfer_mode(uint8_t mode);

// A disk's geometry, for addresses by cylinder, head and sector (CHS).
struct Geometry {
  uint16_t cylinders = 0;
  uint8_t heads = 16;
  uint8_t sectors = 63;  // per track; sector numbers start at 1
  uint32_t total() const { return uint32_t{cylinders} * heads * sectors; }
  bool operator==(const Geometry&) const = default;
};

// Returns the geometry of a disk of `capacity_sectors` with this many heads and sectors
// per track, neither of which is 0. The number of cylinders is limited to what IDENTIFY
// DEVICE can report.
Geometry geometry(uint64_t capacity_sectors, uint8_t heads, uint8_t sectors);

// The variable contents of IDENTIFY DEVICE and IDENTIFY PACKET DEVICE.
struct Identity {
  std::string serial;  // only the first 20 characters are reported
  std::string_view model;
  uint64_t capacity_sectors = 0;  // only for a disk
  Geometry translation;           // the geometry for CHS addresses
  uint8_t multiple = 0;           // sectors per block of READ and WRITE MULTIPLE; 0: not set
  uint8_t transfer_mode = 0;
  bool write_cache = true;
  bool look_ahead = true;
  bool second_device = false;
};

using IdentityWords = std::array<uint16_t, kIdentityBytes / 2>;

IdentityWords identify_disk(const Identity& identity);
IdentityWords identify_cdrom(const Identity& identity);

}  // namespace wick::devices::ata
