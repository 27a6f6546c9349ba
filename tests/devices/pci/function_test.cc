#include "devices/pci/function.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "tests/fakes/counting_line.h"
#include "tests/fakes/recording_sink.h"
#include "tests/fakes/registers.h"

namespace wick::devices {
namespace {

using fakes::kWidths;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

constexpr Bus::Range kWindow{0xc000'0000, 0x10'0000};
constexpr uint64_t kWindowEnd = kWindow.start + kWindow.size;
constexpr uint32_t kBarBytes = 0x4000;

constexpr uint64_t kCommand = 0x04;
constexpr uint64_t kStatus = 0x06;
constexpr uint64_t kBar0 = 0x10;
constexpr uint64_t kMsixBar = 0x14;
constexpr uint64_t kCapabilities = 0x34;
constexpr uint16_t kMemorySpace = 1 << 1;
constexpr uint16_t kBusMaster = 1 << 2;
constexpr uint16_t kInterruptDisable = 1 << 10;
constexpr uint16_t kInterruptStatus = 1 << 3;

// Records the offsets of accesses.
class Toy final : public BusDevice {
 public:
  void read(uint64_t offset, std::span<std::byte> data) override {
    touched.emplace_back(offset, data.size());
    std::ranges::fill(data, std::byte{0x5a});
  }
  void write(uint64_t offset, std::span<const std::byte> data) override {
    touched.emplace_back(offset, data.size());
  }
  std::vector<std::pair<uint64_t, size_t>> touched;
};

class PciFunctionTest : public testing::Test {
 protected:
  PciFunctionTest() {
    function_.add_bar(0, kBarBytes, toy_,
                      [this](uint64_t from, uint64_t to) { moves_.emplace_back(from, to); });
    function_.add_msix(1);
    const auto body = std::to_array<uint8_t>({14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    const auto writable =
        std::to_array<uint8_t>({0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xf0, 0});
    vendor_ = function_.add_capability(9, as_bytes(body.data(), body.size()),
                                       as_bytes(writable.data(), writable.size()));
    function_.place_bars(kWindow, next_, 11);
  }

  uint64_t read(uint64_t offset, size_t width) {
    std::array<std::byte, 8> data;
    data.fill(std::byte{0xee});
    function_.read_config(offset, std::span(data).first(width));
    for (size_t i = width; i < data.size(); ++i) EXPECT_EQ(data[i], std::byte{0xee});
    return load_le<uint64_t>(std::span(data).first(width));
  }
  void write(uint64_t offset, uint64_t value, size_t width) {
    function_.write_config(offset, as_bytes(&value, width));
  }
  std::array<uint8_t, PciFunction::kConfigBytes> all() {
    std::array<uint8_t, PciFunction::kConfigBytes> bytes{};
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(read(i, 1));
    return bytes;
  }
  // Finds the device that decodes an address, and the offset within its BAR.
  std::pair<BusDevice*, uint64_t> find(uint64_t address, size_t size = 1) {
    uint64_t offset = 0;
    BusDevice* device = function_.find(address, size, offset);
    return {device, device == nullptr ? 0 : offset};
  }
  std::vector<std::pair<uint64_t, uint64_t>> take_moves() { return std::exchange(moves_, {}); }

  fakes::CountingLine line_;
  fakes::RecordingSink sink_;
  PciInterrupts interrupts_{4, line_, sink_};
  Toy toy_;
  std::vector<std::pair<uint64_t, uint64_t>> moves_;
  PciFunction function_{{.vendor = 0x1af4,
                         .device = 0x1042,
                         .subsystem_vendor = 0x1111,
                         .subsystem = 0x2222,
                         .class_code = 0x018000,
                         .revision = 1},
                        &interrupts_};
  uint8_t vendor_ = 0;
  uint64_t next_ = kWindow.start + 0x1000;
};

// --- state at power-on ---

TEST_F(PciFunctionTest, IntroducesItself) {
  EXPECT_EQ(read(0, 4), 0x10421af4u);
  EXPECT_EQ(read(8, 4), 0x01800001u);
  EXPECT_EQ(read(0x0c, 4), 0u) << "header type 0, one function, no self-test";
  EXPECT_EQ(read(0x2c, 4), 0x22221111u);
  EXPECT_EQ(read(0x3c, 2), 0x010bu) << "INTA on the line it was told";
  EXPECT_EQ(read(kStatus, 2), 1u << 4) << "there is a capability list, and no interrupt";
}

TEST_F(PciFunctionTest, IsLeftByTheFirmwareWithItsBarsDecoded) {
  EXPECT_EQ(read(kCommand, 2), kMemorySpace | kBusMaster);
  EXPECT_EQ(read(kBar0, 4), kWindow.start + kBarBytes) << "aligned to its size";
  EXPECT_EQ(read(kMsixBar, 4), kWindow.start + 2 * kBarBytes);
  EXPECT_EQ(next_, kWindow.start + 2 * kBarBytes + PciInterrupts::kBarBytes);
  EXPECT_THAT(take_moves(), ElementsAre(Pair(0, kWindow.start + kBarBytes)));
  EXPECT_THAT(find(kWindow.start + kBarBytes), Pair(&toy_, 0));
  EXPECT_THAT(find(kWindow.start + 2 * kBarBytes), Pair(&interrupts_, 0));
}

TEST_F(PciFunctionTest, WithoutInterruptsHasNoPinAndNoCapabilities) {
  PciFunction bare({.vendor = 1, .device = 2}, nullptr);
  bare.place_bars(kWindow, next_, 0);
  std::array<std::byte, 256> bytes{};
  for (uint64_t i = 0; i < 256; ++i) bare.read_config(i, std::span(bytes).subspan(i, 1));
  EXPECT_EQ(bytes[0x3d], std::byte{0});
  EXPECT_EQ(bytes[kCapabilities], std::byte{0});
  EXPECT_EQ(bytes[kStatus], std::byte{0});
  const uint32_t ones = ~0u;
  for (uint64_t i = 0; i < 256; i += 4) bare.write_config(i, as_bytes(&ones, 4));
}

TEST_F(PciFunctionTest, ItsCapabilityListIsWellFormedAndEnds) {
  std::set<uint64_t> seen;
  std::vector<uint64_t> ids;
  for (uint64_t at = read(kCapabilities, 1); at != 0; at = read(at + 1, 1)) {
    EXPECT_GE(at, 0x40u);
    EXPECT_EQ(at % 4, 0u);
    ASSERT_TRUE(seen.insert(at).second) << "a loop";
    ids.push_back(read(at, 1));
  }
  EXPECT_THAT(ids, ElementsAre(0x11, 9));
  EXPECT_EQ(read(vendor_, 8), 0x05040302'010e0009u);
  const uint64_t msix = read(kCapabilities, 1);
  EXPECT_EQ(read(msix + 2, 2), 3u) << "four vectors, off";
  EXPECT_EQ(read(msix + 4, 4), 1u) << "the table is at the start of BAR 1";
  EXPECT_EQ(read(msix + 8, 4), PciInterrupts::kPendingOffset | 1);
}

// --- every access ---

TEST_F(PciFunctionTest, OnlyTheDriversBitsChange) {
  const auto before = all();
  const uint64_t msix = read(kCapabilities, 1);
  std::array<uint8_t, PciFunction::kConfigBytes> writable{};
  writable[kCommand] = 0x06;      // memory space, bus master
  writable[kCommand + 1] = 0x04;  // interrupt disable
  writable[0x0c] = 0xff;          // cache line size
  writable[0x3c] = 0xff;          // interrupt line
  writable[kBar0 + 1] = 0xc0;
  writable[kMsixBar + 1] = 0xf0;
  for (const uint64_t bar : {kBar0, kMsixBar}) writable[bar + 2] = writable[bar + 3] = 0xff;
  writable[msix + 3] = 0xc0;
  for (uint64_t i = 6; i < 10; ++i) writable[vendor_ + 2u + i] = 0xff;
  writable[vendor_ + 12u] = 0xf0;
  for (const uint64_t pattern : {~0ull, 0ull, 0x5555'5555'5555'5555ull, 0xaaaa'aaaa'aaaa'aaaaull}) {
    for (const size_t width : kWidths) {
      for (uint64_t offset = 0; offset < PciFunction::kConfigBytes + 8; ++offset)
        write(offset, pattern, width);
      const auto now = all();
      for (size_t i = 0; i < now.size(); ++i) {
        const auto wanted = (before[i] & ~writable[i]) | (pattern & 0xff & writable[i]);
        EXPECT_EQ(now[i], wanted) << "offset " << i << ", " << pattern << " by " << width;
      }
    }
  }
}

TEST_F(PciFunctionTest, EveryWidthReadsTheSameBytes) {
  const auto bytes = all();
  for (const size_t width : kWidths) {
    for (uint64_t offset = 0; offset + width <= bytes.size(); ++offset)
      ASSERT_EQ(read(offset, width), load_le<uint64_t>(as_bytes(bytes.data() + offset, width)))
          << offset << " by " << width;
    for (uint64_t offset = bytes.size() - width + 1; offset < 4096; ++offset)
      ASSERT_EQ(read(offset, width), 0u) << "there are no extended capabilities";
  }
}

// --- BARs ---

TEST_F(PciFunctionTest, TellsTheSizesOfItsBars) {
  for (uint64_t bar = 0; bar < 6; ++bar) write(kBar0 + 4 * bar, 0xffffffff, 4);
  EXPECT_EQ(read(kBar0, 4), ~(kBarBytes - 1));
  EXPECT_EQ(read(kMsixBar, 4), ~(PciInterrupts::kBarBytes - 1));
  for (uint64_t bar = 2; bar < 6; ++bar) EXPECT_EQ(read(kBar0 + 4 * bar, 4), 0u);
  write(0x30, 0xfffff800, 4);
  EXPECT_EQ(read(0x30, 4), 0u) << "no expansion ROM";
}

TEST_F(PciFunctionTest, MovesABarOnceForEachChange) {
  const uint64_t start = kWindow.start + kBarBytes;
  (void)take_moves();
  write(kBar0, start, 4);
  EXPECT_THAT(take_moves(), IsEmpty()) << "it is there already";
  write(kBar0, kWindow.start + 0x80000, 4);
  EXPECT_THAT(take_moves(), ElementsAre(Pair(start, kWindow.start + 0x80000)));
  EXPECT_THAT(find(start), Pair(nullptr, 0));
  EXPECT_THAT(find(kWindow.start + 0x80004, 4), Pair(&toy_, 4));
  // The bits below the size are read-only.
  write(kBar0, kWindow.start + 0x80000 + kBarBytes - 1, 4);
  EXPECT_THAT(take_moves(), IsEmpty());
  // Writes to other registers move no BAR.
  write(kMsixBar, kWindow.start, 4);
  write(0x3c, 5, 1);
  EXPECT_THAT(take_moves(), IsEmpty());
}

TEST_F(PciFunctionTest, DecodesOnlyWhenMemorySpaceIsOn) {
  const uint64_t start = kWindow.start + kBarBytes;
  (void)take_moves();
  write(kCommand, 0, 2);
  write(kCommand, 0, 2);
  EXPECT_THAT(take_moves(), ElementsAre(Pair(start, 0)));
  EXPECT_THAT(find(start), Pair(nullptr, 0));
  EXPECT_THAT(find(kWindow.start + 2 * kBarBytes), Pair(nullptr, 0));
  // The guest moves the BAR while it is not decoded.
  write(kBar0, kWindow.start + 0x40000, 4);
  EXPECT_THAT(take_moves(), IsEmpty());
  write(kCommand, kMemorySpace, 2);
  write(kCommand, kMemorySpace, 1);
  EXPECT_THAT(take_moves(), ElementsAre(Pair(0, kWindow.start + 0x40000)));
  EXPECT_THAT(find(kWindow.start + 0x40000), Pair(&toy_, 0));
}

// A BAR over RAM, over other devices, partly outside the window, or wrapping at 4 GiB is
// not decoded.
TEST_F(PciFunctionTest, DecodesABarOnlyWhollyInsideTheWindow) {
  uint64_t at = kWindow.start + kBarBytes;
  for (const uint64_t wild :
       std::to_array<uint64_t>({0, 0x10'0000, kWindow.start - kBarBytes, kWindowEnd, 0xfec0'0000,
                                0xfee0'0000, 0xffff'c000, 0xffff'ffff})) {
    (void)take_moves();
    write(kBar0, wild, 4);
    EXPECT_THAT(take_moves(), ElementsAre(Pair(at, 0))) << wild;
    EXPECT_EQ(read(kBar0, 4), wild & ~(uint64_t{kBarBytes} - 1)) << "it reads back all the same";
    EXPECT_THAT(find(wild), Pair(nullptr, 0));
    EXPECT_THAT(find(wild & ~(uint64_t{kBarBytes} - 1)), Pair(nullptr, 0));
    at = kWindowEnd - kBarBytes;
    write(kBar0, at, 4);
    EXPECT_THAT(take_moves(), ElementsAre(Pair(0, at)));
  }
}

TEST_F(PciFunctionTest, AWindowThatEndsInsideABarDoesNotDecodeIt) {
  PciFunction odd({}, nullptr);
  odd.add_bar(0, kBarBytes, toy_);
  uint64_t next = kWindow.start;
  odd.place_bars({kWindow.start, kBarBytes - 0x1000}, next, 0);
  uint64_t offset = 0;
  EXPECT_EQ(odd.find(kWindow.start, 1, offset), nullptr);
}

TEST_F(PciFunctionTest, BytewiseWritesEndInTheSamePlace) {
  (void)take_moves();
  const uint64_t target = kWindow.start + 0x9'4000;
  for (uint64_t i = 0; i < 4; ++i) write(kBar0 + i, target >> (8 * i), 1);
  EXPECT_EQ(read(kBar0, 4), target);
  EXPECT_THAT(find(target), Pair(&toy_, 0));
  uint64_t at = kWindow.start + kBarBytes;
  for (const auto& [from, to] : take_moves()) {
    EXPECT_EQ(from, at);
    EXPECT_NE(to, at);
    at = to;
  }
  EXPECT_EQ(at, target);
}

TEST_F(PciFunctionTest, AnAccessOverTheEndOfABarIsNobodys) {
  const uint64_t end = kWindow.start + 2 * kBarBytes;
  write(kMsixBar, kWindow.start, 4);
  for (const size_t width : kWidths) {
    EXPECT_THAT(find(end - width, width), Pair(&toy_, kBarBytes - width));
    EXPECT_THAT(find(end - width + 1, width), Pair(nullptr, 0));
    EXPECT_THAT(find(kWindow.start + kBarBytes - 1, width), Pair(nullptr, 0));
  }
  EXPECT_THAT(find(~0ull, 8), Pair(nullptr, 0));
  EXPECT_THAT(find(0, 8), Pair(nullptr, 0));
}

TEST_F(PciFunctionTest, OfTwoBarsOverEachOtherTheFirstAnswers) {
  const uint64_t start = kWindow.start + kBarBytes;
  write(kMsixBar, start, 4);
  EXPECT_THAT(find(start), Pair(&toy_, 0));
  write(kBar0, kWindow.start + 0x40000, 4);
  EXPECT_THAT(find(start), Pair(&interrupts_, 0));
}

// --- interrupts in the configuration space ---

TEST_F(PciFunctionTest, ShowsItsInterruptAndObeysTheDisableBit) {
  interrupts_.set_intx(true);
  EXPECT_TRUE(line_.level());
  EXPECT_EQ(read(kStatus, 2) & kInterruptStatus, kInterruptStatus);
  EXPECT_EQ(read(kStatus, 1) & kInterruptStatus, kInterruptStatus);
  EXPECT_EQ(read(kCommand, 4) >> 16 & kInterruptStatus, kInterruptStatus);
  EXPECT_EQ(read(0, 8) >> 48 & kInterruptStatus, kInterruptStatus);
  EXPECT_EQ(read(kStatus + 1, 1), 0u);
  write(kCommand, kMemorySpace | kInterruptDisable, 2);
  EXPECT_FALSE(line_.level());
  EXPECT_EQ(read(kStatus, 2) & kInterruptStatus, kInterruptStatus) << "the status stays";
  write(kCommand, kMemorySpace, 2);
  EXPECT_TRUE(line_.level());
  interrupts_.set_intx(false);
  EXPECT_EQ(read(kStatus, 2) & kInterruptStatus, 0u);
}

TEST_F(PciFunctionTest, SwitchesMsixWithItsControlRegister) {
  const uint64_t control = read(kCapabilities, 1) + 2;
  interrupts_.set_intx(true);
  write(control, PCI_MSIX_FLAGS_ENABLE, 2);
  EXPECT_TRUE(interrupts_.msix_enabled());
  EXPECT_FALSE(line_.level());
  EXPECT_EQ(read(control, 2), PCI_MSIX_FLAGS_ENABLE | 3);
  EXPECT_EQ(read(kStatus, 2) & kInterruptStatus, 0u);
  write(control + 1, 0, 1);
  EXPECT_FALSE(interrupts_.msix_enabled());
  EXPECT_TRUE(line_.level());
}

// --- a window ---

TEST_F(PciFunctionTest, AWindowTakesTheAccessesToItsFourBytes) {
  Toy device;
  const uint8_t at = vendor_ + 8;
  function_.set_window(at, device);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(read(at + i, 1), 0x5au);
  EXPECT_THAT(device.touched, ElementsAre(Pair(0, 1), Pair(1, 1), Pair(2, 1), Pair(3, 1)));
  device.touched.clear();
  write(at, 0x11223344, 4);
  write(at + 2, 0x1122, 2);
  EXPECT_THAT(device.touched, ElementsAre(Pair(0, 4), Pair(2, 2)));
  device.touched.clear();
  (void)read(at - 1u, 1);
  (void)read(at + 4u, 1);
  write(at + 4u, 0, 4);
  write(at - 4u, 0, 4);
  EXPECT_THAT(device.touched, IsEmpty());
}

// 6.2.2: the callback is called for each change, before the write returns.
TEST_F(PciFunctionTest, TellsOfEachChangeOfTheBusMasterBit) {
  std::vector<bool> changes;
  function_.on_bus_master([&](bool enabled) { changes.push_back(enabled); });
  EXPECT_EQ(read(kCommand, 2) & kBusMaster, kBusMaster) << "as firmware leaves it";
  write(kCommand, kMemorySpace | kBusMaster, 2);
  EXPECT_THAT(changes, IsEmpty());
  write(kCommand, kMemorySpace, 1);
  write(kCommand + 1, 0xff, 1);  // the upper byte, without the Bus Master bit
  write(0x3c, 7, 1);
  EXPECT_THAT(changes, ElementsAre(false));
  write(kCommand, kBusMaster, 2);
  write(kCommand, 0, 4);
  EXPECT_THAT(changes, ElementsAre(false, true, false));
}

}  // namespace
}  // namespace wick::devices
