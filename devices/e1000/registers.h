// The registers of the 82540EM: offsets, names, reset values and writable bits.
//
// Plain values and pure functions; no thread rule.
//
// Specification: Intel 8254x Software Developer's Manual (317453), 13.4. The registers
// of the PHY are in devices/e1000/phy.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace wick::devices::e1000 {

// The offsets of the registers (table 13-2). The registers from kRegisterBytes on, which are
// wake-up filters and the packet buffer, read as zeroes.
enum Offset : uint32_t {
  kCtrl = 0x0000,
  kCtrlCopy = 0x0004,  // a second address of CTRL
  kStatus = 0x0008,
  kEecd = 0x0010,
  kEerd = 0x0014,
  kCtrlExt = 0x0018,
  kMdic = 0x0020,
  kVet = 0x0038,
  kIcr = 0x00c0,
  kItr = 0x00c4,
  kIcs = 0x00c8,
  kIms = 0x00d0,
  kImc = 0x00d8,
  kRctl = 0x0100,
  kTctl = 0x0400,
  kRdbal = 0x2800,
  kRdbah = 0x2804,
  kRdlen = 0x2808,
  kRdh = 0x2810,
  kRdt = 0x2818,
  kTdbal = 0x3800,
  kTdbah = 0x3804,
  kTdlen = 0x3808,
  kTdh = 0x3810,
  kTdt = 0x3818,
  kStatistics = 0x4000,  // the first statistics register
  kMpc = 0x4010,
  kRoc = 0x40ac,
  kPrc64 = 0x405c,  // the first of six counters, by frame size
  kGprc = 0x4074,
  kBprc = 0x4078,
  kMprc = 0x407c,
  kGptc = 0x4080,
  kGorcl = 0x4088,
  kGotcl = 0x4090,
  kRnbc = 0x40a0,
  kTorl = 0x40c0,
  kTotl = 0x40c8,
  kTpr = 0x40d0,
  kTpt = 0x40d4,
  kPtc64 = 0x40d8,
  kMptc = 0x40f0,
  kBptc = 0x40f4,
  kTsctc = 0x40f8,
  kTsctfc = 0x40fc,  // the last statistics register
  kRxcsum = 0x5000,
  kMta = 0x5200,
  kRa = 0x5400,
  kVfta = 0x5600,
  kRegisterBytes = 0x6000,
};

constexpr size_t kRegisterWords = kRegisterBytes / 4;
constexpr size_t kMulticastWords = 128;
constexpr size_t kVlanWords = 128;
constexpr size_t kReceiveAddresses = 16;  // each has two words: RAL and RAH

// Bits of CTRL (13.4.1).
constexpr uint32_t kFullDuplex = 1 << 0;
constexpr uint32_t kSetLinkUp = 1 << 6;
constexpr uint32_t kSpeed1000 = 2 << 8;
constexpr uint32_t kReset = 1 << 26;
constexpr uint32_t kVlanMode = 1 << 30;
constexpr uint32_t kPhyReset = 1u << 31;

// Bits of STATUS (13.4.2).
constexpr uint32_t kStatusUp = 1 << 1;               // the link is up
constexpr uint32_t kStatusAlways = 1 << 0 | 2 << 6;  // full duplex, 1000 Mb/s

// Bits of EERD (13.4.4).
constexpr uint32_t kEerdStart = 1 << 0;
constexpr uint32_t kEerdDone = 1 << 4;

// CTRL_EXT (13.4.5): reload the EEPROM as after a reset.
constexpr uint32_t kEepromReset = 1 << 13;

// Bits of MDIC (13.4.7).
constexpr uint32_t kMdicWrite = 1 << 26;
constexpr uint32_t kMdicRead = 2 << 26;
constexpr uint32_t kMdicOperation = 3 << 26;
constexpr uint32_t kMdicReady = 1 << 28;
constexpr uint32_t kMdicInterrupt = 1 << 29;
constexpr uint32_t kMdicError = 1 << 30;

// The interrupt causes, bits of ICR, ICS, IMS and IMC (13.4.17).
constexpr uint32_t kTxdw = 1 << 0;     // transmit descriptor written back
constexpr uint32_t kTxqe = 1 << 1;     // transmit queue empty
constexpr uint32_t kLsc = 1 << 2;      // link status change
constexpr uint32_t kRxdmt0 = 1 << 4;   // receive descriptor minimum threshold reached
constexpr uint32_t kRxo = 1 << 6;      // receiver overrun
constexpr uint32_t kRxt0 = 1 << 7;     // receiver timer: packets have been received
constexpr uint32_t kMdac = 1 << 9;     // MDIC access completed
constexpr uint32_t kCauses = 0x1ffff;  // all causes; some can be set only through ICS

constexpr uint32_t kItrUnitNs = 256;

// Bits of RCTL (13.4.22).
constexpr uint32_t kReceiveEnable = 1 << 1;
constexpr uint32_t kUnicastPromiscuous = 1 << 3;
constexpr uint32_t kMulticastPromiscuous = 1 << 4;
constexpr uint32_t kLongPackets = 1 << 5;
constexpr uint32_t kBroadcastAccept = 1 << 15;
constexpr uint32_t kVlanFilter = 1 << 18;
constexpr uint32_t kCanonicalFilter = 1 << 19;
constexpr uint32_t kCanonical = 1 << 20;
constexpr uint32_t kSizeExtension = 1 << 25;
constexpr uint32_t kStripCrc = 1 << 26;

constexpr uint32_t minimum_threshold(uint32_t rctl) { return rctl >> 8 & 3; }
constexpr uint32_t multicast_offset(uint32_t rctl) { return rctl >> 12 & 3; }
// The buffer size that BSIZE and BSEX encode; the reserved combination gives the default.
constexpr uint32_t buffer_bytes(uint32_t rctl) {
  const uint32_t size = rctl >> 16 & 3;
  if ((rctl & kSizeExtension) != 0 && size != 0) return 32768u >> size;
  return 2048u >> size;
}

// Bits of TCTL (13.4.33).
constexpr uint32_t kTransmitEnable = 1 << 1;
constexpr uint32_t kPadShortPackets = 1 << 3;

// RXCSUM (13.4.47): report the result of TCP and UDP checksums.
constexpr uint32_t kReportTcpUdp = 1 << 9;

// Bits of RAH (13.4.51).
constexpr uint32_t kAddressValid = 1u << 31;
constexpr uint32_t kAddressSelect = 3 << 16;  // ASEL; 0: match the destination address

enum class Access : uint8_t { kReadWrite, kReadOnly, kWriteOnly, kReadClear };

struct Register {
  uint32_t offset = 0;
  std::string_view name;
  Access access = Access::kReadWrite;
  uint32_t reset = 0;
  uint32_t writable = 0xffffffff;
  uint32_t count = 1;   // number of registers in a table
  uint32_t stride = 4;  // distance between two registers of a table, in bytes
};

// Returns the register at `offset`, a multiple of 4; nullptr if there is none.
const Register* find_register(uint64_t offset);

// Returns the values of all registers after a reset, without those loaded from the EEPROM.
const std::array<uint32_t, kRegisterWords>& reset_values();

}  // namespace wick::devices::e1000
