#include "devices/e1000/registers.h"

#include <algorithm>

namespace wick::devices::e1000 {

namespace {

using enum Access;

constexpr uint32_t kCtrlReset = kFullDuplex | kSetLinkUp | kSpeed1000;
constexpr uint32_t kCtrlBits = ~(kReset | kPhyReset);
constexpr uint32_t kRctlBits = 0x06dfb3fe;
constexpr uint32_t kTctlBits = 0x037ffffa;
constexpr uint32_t kRingAddress = 0xfffffff0;
constexpr uint32_t kRingLength = 0x000fff80;  // 13.4.27: multiples of 128 bytes
constexpr uint32_t kLow16 = 0xffff;

// Registers without an effect here only store their value: flow control, inter-packet
// gaps, the packet buffer's FIFOs, LEDs, thresholds, wake-up. The interrupt delays RDTR,
// RADV, TIDV and TADV have no effect either: the manual recommends ITR instead, which is
// implemented.
constexpr Register kTable[] = {
    {kCtrl, "CTRL", kReadWrite, kCtrlReset, kCtrlBits},
    {kCtrlCopy, "CTRL", kReadWrite, kCtrlReset, kCtrlBits},
    {kStatus, "STATUS", kReadOnly},
    {kEecd, "EECD"},
    {kEerd, "EERD"},
    {kCtrlExt, "CTRL_EXT", kReadWrite, 0, ~kEepromReset},
    {0x001c, "FLA", kReadOnly},
    {kMdic, "MDIC"},
    {0x0028, "FCAL", kReadWrite, 0x00c28001},
    {0x002c, "FCAH", kReadWrite, 0x0100, kLow16},
    {0x0030, "FCT", kReadWrite, 0x8808, kLow16},
    {kVet, "VET", kReadWrite, 0x8100, kLow16},
    {kIcr, "ICR", kReadClear},
    {kItr, "ITR", kReadWrite, 0, kLow16},
    {kIcs, "ICS", kWriteOnly},
    {kIms, "IMS", kReadWrite, 0, kCauses},
    {kImc, "IMC", kWriteOnly},
    {kRctl, "RCTL", kReadWrite, 0, kRctlBits},
    {0x0170, "FCTTV", kReadWrite, 0, kLow16},
    {0x0178, "TXCW", kReadWrite, 0, 0xc000ffff},
    {0x0180, "RXCW", kReadOnly},
    {kTctl, "TCTL", kReadWrite, 0, kTctlBits},
    {0x0410, "TIPG", kReadWrite, 0, 0x3fffffff},
    {0x0448, "TBT"},
    {0x0458, "AIFS", kReadWrite, 0, kLow16},
    {0x0e00, "LEDCTL", kReadWrite, 0x07068302},
    {0x1000, "PBA", kReadWrite, 0x00100030, 0x0000007f},
    {0x2008, "ERT"},
    {0x2160, "FCRTL", kReadWrite, 0, 0x8000fff8},
    {0x2168, "FCRTH", kReadWrite, 0, 0x8000fff8},
    {0x2410, "RDFH", kReadWrite, 0, 0x1fff},
    {0x2418, "RDFT", kReadWrite, 0, 0x1fff},
    {0x2420, "RDFHS", kReadWrite, 0, 0x1fff},
    {0x2428, "RDFTS", kReadWrite, 0, 0x1fff},
    {0x2430, "RDFPC", kReadWrite, 0, 0x1fff},
    {kRdbal, "RDBAL", kReadWrite, 0, kRingAddress},
    {kRdbah, "RDBAH"},
    {kRdlen, "RDLEN", kReadWrite, 0, kRingLength},
    {kRdh, "RDH", kReadWrite, 0, kLow16},
    {kRdt, "RDT", kReadWrite, 0, kLow16},
    {0x2820, "RDTR", kReadWrite, 0, kLow16},
    {0x2828, "RXDCTL", kReadWrite, 0x00010000},
    {0x282c, "RADV", kReadWrite, 0, kLow16},
    {0x2c00, "RSRPD", kReadWrite, 0, 0x0fff},
    {0x3000, "TXDMAC"},
    {0x3410, "TDFH", kReadWrite, 0, 0x07ff},
    {0x3418, "TDFT", kReadWrite, 0, 0x07ff},
    {0x3420, "TDFHS", kReadWrite, 0, 0x1fff},
    {0x3428, "TDFTS", kReadWrite, 0, 0x1fff},
    {0x3430, "TDFPC", kReadWrite, 0, 0x0fff},
    {kTdbal, "TDBAL", kReadWrite, 0, kRingAddress},
    {kTdbah, "TDBAH"},
    {kTdlen, "TDLEN", kReadWrite, 0, kRingLength},
    {kTdh, "TDH", kReadWrite, 0, kLow16},
    {kTdt, "TDT", kReadWrite, 0, kLow16},
    {0x3820, "TIDV", kReadWrite, 0, kLow16},
    {0x3828, "TXDCTL"},
    {0x382c, "TADV", kReadWrite, 0, kLow16},
    {0x3830, "TSPMT"},
    {0x4000, "CRCERRS", kReadClear},
    {0x4004, "ALGNERRC", kReadClear},
    {0x4008, "SYMERRS", kReadClear},
    {0x400c, "RXERRC", kReadClear},
    {kMpc, "MPC", kReadClear},
    {0x4014, "SCC", kReadClear},
    {0x4018, "ECOL", kReadClear},
    {0x401c, "MCC", kReadClear},
    {0x4020, "LATECOL", kReadClear},
    {0x4028, "COLC", kReadClear},
    {0x4030, "DC", kReadClear},
    {0x4034, "TNCRS", kReadClear},
    {0x4038, "SEC", kReadClear},
    {0x403c, "CEXTERR", kReadClear},
    {0x4040, "RLEC", kReadClear},
    {0x4048, "XONRXC", kReadClear},
    {0x404c, "XONTXC", kReadClear},
    {0x4050, "XOFFRXC", kReadClear},
    {0x4054, "XOFFTXC", kReadClear},
    {0x4058, "FCRUC", kReadClear},
    {kPrc64, "PRC64", kReadClear},
    {0x4060, "PRC127", kReadClear},
    {0x4064, "PRC255", kReadClear},
    {0x4068, "PRC511", kReadClear},
    {0x406c, "PRC1023", kReadClear},
    {0x4070, "PRC1522", kReadClear},
    {kGprc, "GPRC", kReadClear},
    {kBprc, "BPRC", kReadClear},
    {kMprc, "MPRC", kReadClear},
    {kGptc, "GPTC", kReadClear},
    {kGorcl, "GORCL", kReadClear},
    {kGorcl + 4, "GORCH", kReadClear},
    {kGotcl, "GOTCL", kReadClear},
    {kGotcl + 4, "GOTCH", kReadClear},
    {kRnbc, "RNBC", kReadClear},
    {0x40a4, "RUC", kReadClear},
    {0x40a8, "RFC", kReadClear},
    {kRoc, "ROC", kReadClear},
    {0x40b0, "RJC", kReadClear},
    {0x40b4, "MGTPRC", kReadClear},
    {0x40b8, "MGTPDC", kReadClear},
    {0x40bc, "MGTPTC", kReadClear},
    {kTorl, "TORL", kReadClear},
    {kTorl + 4, "TORH", kReadClear},
    {kTotl, "TOTL", kReadClear},
    {kTotl + 4, "TOTH", kReadClear},
    {kTpr, "TPR", kReadClear},
    {kTpt, "TPT", kReadClear},
    {kPtc64, "PTC64", kReadClear},
    {0x40dc, "PTC127", kReadClear},
    {0x40e0, "PTC255", kReadClear},
    {0x40e4, "PTC511", kReadClear},
    {0x40e8, "PTC1023", kReadClear},
    {0x40ec, "PTC1522", kReadClear},
    {kMptc, "MPTC", kReadClear},
    {kBptc, "BPTC", kReadClear},
    {kTsctc, "TSCTC", kReadClear},
    {kTsctfc, "TSCTFC", kReadClear},
    {kRxcsum, "RXCSUM", kReadWrite, 0, 0x07ff},
    {kMta, "MTA", kReadWrite, 0, 0xffffffff, kMulticastWords},
    {kRa, "RAL", kReadWrite, 0, 0xffffffff, kReceiveAddresses, 8},
    {kRa + 4, "RAH", kReadWrite, 0, 0x8003ffff, kReceiveAddresses, 8},
    {kVfta, "VFTA", kReadWrite, 0, 0xffffffff, kVlanWords},
    {0x5800, "WUC", kReadWrite, 0, 0x000f},
    {0x5808, "WUFC", kReadWrite, 0, 0x000f80ff},
    {0x5810, "WUS", kReadOnly},
    {0x5820, "MANC"},
    {0x5838, "IPAV", kReadWrite, 0, 0x0001000f},
    {0x5840, "IP4AT", kReadWrite, 0, 0xffffffff, 8},
    {0x5880, "IP6AT", kReadWrite, 0, 0xffffffff, 4},
    {0x5900, "WUPL", kReadOnly},
    {0x5a00, "WUPM", kReadOnly, 0, 0, 32},
    {0x5f00, "FFLT", kReadWrite, 0, 0x07ff, 8},
};

constexpr uint8_t kNone = 0xff;
static_assert(std::size(kTable) < kNone);

// For each word, the index in kTable of the register that contains it.
constexpr auto kIndex = [] {
  std::array<uint8_t, kRegisterWords> index{};
  index.fill(kNone);
  uint8_t at = 0;
  for (const Register& each : kTable) {
    for (uint32_t i = 0; i < each.count; ++i) index.at((each.offset + i * each.stride) / 4) = at;
    ++at;
  }
  return index;
}();

constexpr auto kResetValues = [] {
  std::array<uint32_t, kRegisterWords> values{};
  for (const Register& each : kTable) values.at(each.offset / 4) = each.reset;
  return values;
}();

}  // namespace

const Register* find_register(uint64_t offset) {
  if (offset >= kRegisterBytes) return nullptr;
  const uint8_t index = kIndex[offset / 4];
  return index == kNone ? nullptr : &kTable[index];
}

const std::array<uint32_t, kRegisterWords>& reset_values() { return kResetValues; }

}  // namespace wick::devices::e1000
