#include "devices/pci/host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "tests/fakes/counting_line.h"
#include "tests/fakes/recording_sink.h"
#include "tests/fakes/registers.h"

namespace wick::devices {
namespace {

using fakes::all_ones;
using fakes::kWidths;
using fakes::read_register;
using fakes::write_register;
using testing::HasSubstr;

constexpr Bus::Range kWindow{0xc000'0000, 0x10'0000};
constexpr uint32_t kBarBytes = 0x1000;
constexpr uint64_t kAddress = 0;  // offsets from 0xcf8
constexpr uint64_t kResetControl = 1;
constexpr uint64_t kData = 4;
constexpr uint32_t kEnable = 1u << 31;
constexpr uint64_t kCommand = 0x04;
constexpr uint64_t kBar0 = 0x10;
constexpr auto kSlots = std::to_array<uint8_t>({1, 8});

// Reads as its number, and records the last access.
class Toy final : public BusDevice {
 public:
  explicit Toy(uint8_t number) : number_(number) {}
  void read(uint64_t offset, std::span<std::byte> data) override {
    last_offset = offset;
    std::ranges::fill(data, std::byte{number_});
  }
  void write(uint64_t offset, std::span<const std::byte> data) override {
    last_offset = offset;
    last_value = load_le<uint64_t>(data);
  }
  std::atomic<uint64_t> last_offset = 0;
  std::atomic<uint64_t> last_value = 0;

 private:
  const uint8_t number_;
};

class PciHostTest : public testing::Test {
 protected:
  struct Card {
    explicit Card(uint8_t slot) : toy(slot) {
      function.add_bar(0, kBarBytes, toy);
      function.add_msix(1);
    }
    Toy toy;
    fakes::CountingLine line;
    fakes::RecordingSink sink;
    PciInterrupts interrupts{2, line, sink};
    PciFunction function{{.vendor = 0x1234, .device = 0x5678}, &interrupts};
  };

  PciHostTest() {
    for (const uint8_t slot : kSlots) {
      auto& card = cards_.emplace_back(std::make_unique<Card>(slot));
      EXPECT_TRUE(host_.attach(slot, card->function, 10));
    }
  }

  static uint64_t ecam_offset(uint32_t slot, uint64_t offset) { return slot << 15 | offset; }
  uint64_t ecam(uint32_t slot, uint64_t offset, size_t width) {
    return read_register(host_.ecam(), ecam_offset(slot, offset), width);
  }
  void set_ecam(uint32_t slot, uint64_t offset, uint64_t value, size_t width) {
    write_register(host_.ecam(), ecam_offset(slot, offset), value, width);
  }
  // Access through the ports: CONFIG_ADDRESS gets the register, CONFIG_DATA its bytes.
  void select(uint32_t bus_device_function, uint64_t offset, uint32_t enable = kEnable) {
    write_register(host_.ports(), kAddress, enable | bus_device_function << 8 | (offset & 0xfc), 4);
  }
  uint64_t port(uint32_t slot, uint64_t offset, size_t width) {
    select(slot << 3, offset);
    return read_register(host_.ports(), kData + offset % 4, width);
  }
  void set_port(uint32_t slot, uint64_t offset, uint64_t value, size_t width) {
    select(slot << 3, offset);
    write_register(host_.ports(), kData + offset % 4, value, width);
  }
  uint64_t window(uint64_t offset, size_t width = 1) {
    return read_register(host_.window(), offset, width);
  }
  static uint64_t bytes_of(uint8_t number, size_t width) {
    return 0x0101'0101'0101'0101 * number & all_ones(width);
  }

  int resets_ = 0;
  std::vector<std::unique_ptr<Card>> cards_;
  PciHost host_{kWindow, [this] { ++resets_; }};
};

// --- slots ---

TEST_F(PciHostTest, IsAHostBridgeInSlotZero) {
  EXPECT_EQ(ecam(0, 8, 4) >> 8, 0x060000u);
  EXPECT_NE(ecam(0, 0, 2), 0xffffu);
  EXPECT_EQ(ecam(0, 0x3d, 1), 0u) << "without an interrupt";
}

TEST_F(PciHostTest, RefusesASlotThatIsTakenOrDoesNotExist) {
  PciFunction another({}, nullptr);
  for (const uint8_t slot : std::to_array<uint8_t>({0, 1, 8, 32, 255})) {
    const auto refused = host_.attach(slot, another, 0);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(), HasSubstr(fmt::format("slot {}", slot)));
  }
  EXPECT_TRUE(host_.attach(31, another, 0));
}

TEST_F(PciHostTest, RefusesAFunctionForWhichTheWindowHasNoPlace) {
  Toy toy(9);
  PciFunction large({}, nullptr);
  large.add_bar(0, static_cast<uint32_t>(kWindow.size), toy);
  const auto refused = host_.attach(9, large, 0);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("do not fit"));
  EXPECT_EQ(ecam(9, 0, 4), 0xffffffffu);
}

TEST_F(PciHostTest, FunctionsThatAreNotThereReadAllOnes) {
  const auto present = [](uint32_t bus_device_function) {
    return bus_device_function == 0 || bus_device_function == 1 << 3 ||
           bus_device_function == 8 << 3;
  };
  for (uint32_t which = 0; which < 1 << 16; ++which) {
    for (const uint64_t offset : {0u, 0x3cu, 0xfcu}) {
      if (present(which)) continue;
      select(which, offset);
      for (const size_t width : {1u, 2u, 4u})
        ASSERT_EQ(read_register(host_.ports(), kData, width), all_ones(width)) << which;
      write_register(host_.ports(), kData, 0, 4);
    }
  }
  for (uint32_t which = 0; which < 256; ++which) {
    if (present(which)) continue;
    for (const uint64_t offset : {0u, 0x3cu, 0x100u, 0xff8u}) {
      const uint64_t at = which << 12 | offset;
      for (const size_t width : kWidths)
        ASSERT_EQ(read_register(host_.ecam(), at, width), all_ones(width)) << which;
      write_register(host_.ecam(), at, 0, 8);
    }
  }
}

// --- the two mechanisms ---

TEST_F(PciHostTest, BothMechanismsReadTheSame) {
  for (const uint32_t slot : {0u, 1u, 2u, 8u}) {
    for (uint64_t offset = 0; offset < 256; ++offset) {
      for (const size_t width : {1u, 2u, 4u}) {
        if (offset % 4 + width > 4) continue;  // crosses the end of CONFIG_DATA
        ASSERT_EQ(port(slot, offset, width), ecam(slot, offset, width))
            << slot << ": " << offset << " by " << width;
      }
      if (offset % 8 == 0) {
        ASSERT_EQ(ecam(slot, offset, 8), ecam(slot, offset + 4, 4) << 32 | ecam(slot, offset, 4));
      }
    }
  }
}

TEST_F(PciHostTest, BothMechanismsWriteTheSame) {
  for (const uint64_t value : {~0ull, 0ull, 0x0123'4567'89ab'cdefull}) {
    for (uint64_t offset = 0; offset < 256; ++offset) {
      for (const size_t width : {1u, 2u, 4u}) {
        if (offset % 4 + width > 4) continue;
        set_port(1, offset, value, width);
        set_ecam(8, offset, value, width);
        for (uint64_t look = 0; look < 256; look += 4) {
          // The BARs differ between the two functions.
          if (look == kBar0 || look == kBar0 + 4) continue;
          ASSERT_EQ(ecam(1, look, 4), ecam(8, look, 4)) << value << " at " << offset;
        }
      }
    }
  }
}

TEST_F(PciHostTest, SurvivesEveryConfigurationAccess) {
  for (const uint64_t value : {~0ull, 0ull, 0xdead'beef'dead'beefull}) {
    for (const size_t width : kWidths) {
      for (const uint32_t slot : {0u, 1u, 8u, 31u}) {
        for (uint64_t offset = 0; offset <= 4096 - width; ++offset) {
          set_ecam(slot, offset, value, width);
          (void)ecam(slot, offset, width);
        }
      }
      for (uint64_t offset = 0; offset <= PciHost::kPorts - width; ++offset) {
        for (const uint32_t address :
             {0u, kEnable, kEnable | 0xfc, kEnable | 1 << 11 | 0xfc, ~0u}) {
          write_register(host_.ports(), kAddress, address, 4);
          write_register(host_.ports(), offset, value & ~0x0404'0404'0404'0404ull, width);
          (void)read_register(host_.ports(), offset, width);
        }
      }
    }
  }
  EXPECT_EQ(resets_, 0);
  EXPECT_EQ(ecam(1, 0, 4), 0x56781234u);
}

TEST_F(PciHostTest, ThePortsNeedTheEnableBit) {
  select(1 << 3, 0, 0);
  EXPECT_EQ(read_register(host_.ports(), kData, 4), 0xffffffffu);
  select(1 << 3, 0x3c, 0);
  write_register(host_.ports(), kData, 0x55, 1);
  EXPECT_EQ(ecam(1, 0x3c, 1), 10u);
}

// 3.2.2.3.2: only a full 32-bit access reaches CONFIG_ADDRESS; its reserved bits read
// as 0.
TEST_F(PciHostTest, TheAddressRegisterTakesFourBytesAndKeepsNoReservedBits) {
  write_register(host_.ports(), kAddress, 0xffffffff, 4);
  EXPECT_EQ(read_register(host_.ports(), kAddress, 4), 0x80fffffcu);
  write_register(host_.ports(), kAddress, 0x80000840, 4);
  for (const uint64_t offset : {0u, 2u, 3u}) write_register(host_.ports(), offset, 0, 1);
  for (const uint64_t offset : {0u, 2u}) write_register(host_.ports(), offset, 0, 2);
  EXPECT_EQ(read_register(host_.ports(), kAddress, 4), 0x80000840u);
  for (const size_t width : {1u, 2u})
    EXPECT_EQ(read_register(host_.ports(), kAddress, width), all_ones(width));
}

TEST_F(PciHostTest, ResetsOnItsBitOfItsPortOnly) {
  for (uint32_t value = 0; value < 256; ++value) {
    resets_ = 0;
    write_register(host_.ports(), kResetControl, value, 1);
    EXPECT_EQ(resets_, (value & 4) != 0 ? 1 : 0) << value;
  }
  resets_ = 0;
  for (uint64_t offset = 0; offset < PciHost::kPorts; ++offset)
    for (const size_t width : {1u, 2u, 4u})
      if (offset + width <= PciHost::kPorts && (offset != kResetControl || width != 1))
        write_register(host_.ports(), offset, ~0ull, width);
  EXPECT_EQ(resets_, 0);
}

// --- the window ---

TEST_F(PciHostTest, ReachesTheDevicesBehindTheirBars) {
  for (size_t i = 0; i < kSlots.size(); ++i) {
    const uint64_t at = ecam(kSlots[i], kBar0, 4) - kWindow.start;
    for (const size_t width : kWidths) {
      EXPECT_EQ(window(at + 8, width), bytes_of(kSlots[i], width));
      write_register(host_.window(), at + 0x123, 0x1122334455667788, width);
      EXPECT_EQ(cards_[i]->toy.last_offset, 0x123u);
      EXPECT_EQ(cards_[i]->toy.last_value, 0x1122334455667788 & all_ones(width));
    }
  }
}

TEST_F(PciHostTest, WhereNoBarIsReadsAllOnes) {
  for (const size_t width : kWidths) {
    for (const uint64_t at : {kWindow.size - 8, kWindow.size / 2}) {
      write_register(host_.window(), at, 0, width);
      EXPECT_EQ(window(at, width), all_ones(width));
    }
  }
  for (const uint32_t slot : kSlots) set_ecam(slot, kCommand, 0, 2);
  for (uint64_t at = 0; at < kWindow.size; at += 0x800) EXPECT_EQ(window(at), 0xffu);
}

TEST_F(PciHostTest, OfTwoFunctionsOverEachOtherTheLowerSlotAnswers) {
  const uint64_t at = 0x40000;
  for (const uint32_t slot : {8u, 1u}) set_ecam(slot, kBar0, kWindow.start + at, 4);
  EXPECT_EQ(window(at), 1u);
  set_ecam(1, kBar0, kWindow.start, 4);
  EXPECT_EQ(window(at), 8u);
  EXPECT_EQ(window(0), 1u);
}

TEST_F(PciHostTest, ABarOutOfTheWindowIsNotReached) {
  for (const uint64_t wild : std::to_array<uint64_t>(
           {0, 0x1000, kWindow.start - kBarBytes, kWindow.start + kWindow.size, 0xffff'f000})) {
    set_ecam(1, kBar0, wild, 4);
    set_ecam(1, kBar0 + 4, wild, 4);
    for (uint64_t at = 0; at < kWindow.size; at += kBarBytes) EXPECT_NE(window(at), 1u);
  }
}

// --- several vCPUs ---

TEST_F(PciHostTest, ServesSeveralThreadsAtOnce) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!stop) {
      const uint64_t got = window(0x40000);
      EXPECT_TRUE(got == 1 || got == 8 || got == 0xff) << got;
      write_register(host_.window(), 0x40000, 0, 4);
    }
  });
  threads.emplace_back([&] {
    while (!stop) {
      EXPECT_EQ(ecam(1, 0, 4), 0x56781234u);
      set_port(8, 0x3c, 7, 1);
    }
  });
  threads.emplace_back([&] {
    while (!stop) {
      cards_[0]->interrupts.set_intx(true);
      cards_[0]->interrupts.send(0);
      cards_[0]->interrupts.set_intx(false);
    }
  });
  for (uint32_t i = 0; i < 2000; ++i) {
    const uint32_t slot = kSlots[i % 2];
    set_ecam(slot, kBar0, kWindow.start + 0x40000, 4);
    set_ecam(slot, kCommand, i % 3 == 0 ? 0x406 : 0x006, 2);
    set_ecam(slot, kBar0, kWindow.start + 0x1000 * slot, 4);
    set_ecam(slot, kCommand, 0, 2);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

// --- hot-plug ---

TEST_F(PciHostTest, APluggedFunctionHasNoAddressesUntilTheGuestAssignsThem) {
  Card card(9);
  ASSERT_TRUE(host_.plug(9, card.function, 11));
  EXPECT_EQ(ecam(9, 0, 2), 0x1234u);
  EXPECT_EQ(ecam(9, kBar0, 4), 0u);
  EXPECT_EQ(ecam(9, kCommand, 2) & PCI_COMMAND_MEMORY, 0u);
  EXPECT_EQ(ecam(9, PCI_INTERRUPT_LINE, 1), 11u);
  set_ecam(9, kBar0, kWindow.start + 0x8'0000, 4);
  set_ecam(9, kCommand, PCI_COMMAND_MEMORY, 2);
  EXPECT_EQ(read_register(host_.window(), 0x8'0010, 1), 9u);
}

TEST_F(PciHostTest, AnUnpluggedFunctionIsOutOfReachAndItsSlotIsFree) {
  Card first(9);
  uint64_t last_move = 1;
  first.function.add_bar(2, kBarBytes, first.toy, [&](uint64_t, uint64_t to) { last_move = to; });
  ASSERT_TRUE(host_.plug(9, first.function, 11));
  set_ecam(9, kBar0 + 8, kWindow.start + 0x8'0000, 4);
  set_ecam(9, kCommand, PCI_COMMAND_MEMORY, 2);
  EXPECT_EQ(last_move, kWindow.start + 0x8'0000);
  host_.unplug(9);
  EXPECT_EQ(last_move, 0u) << "its eventfds are to be removed";
  EXPECT_EQ(ecam(9, 0, 4), all_ones(4));
  EXPECT_EQ(read_register(host_.window(), 0x8'0010, 1), 0xffu);
  Card second(9);
  ASSERT_TRUE(host_.plug(9, second.function, 11));
  set_ecam(9, kBar0, kWindow.start + 0x8'0000, 4);
  set_ecam(9, kCommand, PCI_COMMAND_MEMORY, 2);
  EXPECT_EQ(read_register(host_.window(), 0x8'0010, 1), 9u) << "the address is free again";
}

TEST_F(PciHostTest, OnlyAFreeSlotCanBePlugged) {
  Card card(9);
  for (const uint8_t slot : std::to_array<uint8_t>({0, 1, 32, 255}))
    EXPECT_FALSE(host_.plug(slot, card.function, 11));
  for (const uint8_t slot : std::to_array<uint8_t>({0, 9, 32, 255})) host_.unplug(slot);
  EXPECT_NE(ecam(0, 0, 4), all_ones(4)) << "the bridge itself stays";
}

// SeaBIOS, src/fw/paravirt.c (qemu_detect) and src/fw/shadow.c.
TEST(I440fx, IsTheBridgeThatFirmwareKnows) {
  PciHost host(
      kWindow, [] {}, {}, PciHost::Identity::kI440fx);
  const auto out = [&](uint64_t offset, uint32_t value, size_t bytes = 4) {
    write_register(host.ports(), offset, value, bytes);
  };
  const auto in = [&](uint8_t reg) {
    out(kAddress, kEnable | reg);
    return static_cast<uint32_t>(read_register(host.ports(), kData, 4));
  };
  EXPECT_EQ(in(0x00), 0x12378086u);
  EXPECT_EQ(in(0x2c), 0x11001af4u);
  EXPECT_EQ(in(0x58), 0u);
  out(kData, 0xffff'ffff);
  EXPECT_EQ(in(0x58), 0xffff'ff00u);  // PAM 0 begins at 0x59
  in(0x5c);
  out(kData, 0x3333'3333);
  EXPECT_EQ(in(0x5c), 0x3333'3333u);
}

}  // namespace
}  // namespace wick::devices
