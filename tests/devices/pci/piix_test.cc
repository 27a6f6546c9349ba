#include "devices/pci/piix.h"

#include <gtest/gtest.h>

#include "tests/fakes/registers.h"

namespace wick::devices {
namespace {

using fakes::read_register;
using fakes::write_register;

constexpr uint32_t kNothing = 0xffff'ffff;

class PiixTest : public testing::Test {
 protected:
  PiixTest() { EXPECT_TRUE(piix_.attach_to(host_)); }

  void select(uint32_t slot, uint32_t function, uint32_t offset) {
    write_register(host_.ports(), 0, 1u << 31 | slot << 11 | function << 8 | offset, 4);
  }
  uint32_t read(uint32_t slot, uint32_t function, uint32_t offset) {
    select(slot, function, offset);
    return static_cast<uint32_t>(read_register(host_.ports(), 4, 4));
  }
  void write(uint32_t slot, uint32_t function, uint32_t offset, uint32_t value) {
    select(slot, function, offset);
    write_register(host_.ports(), 4, value, 4);
  }

  PciHost host_{{0x8000'0000, 0x1000'0000}, [] {}, {}, PciHost::Identity::kI440fx};
  Piix piix_{0x600};
};

// edk2, OvmfPkg/Library/AcpiTimerLib/BaseRomAcpiTimerLib.c.
TEST_F(PiixTest, SaysWhereTheAcpiTimerIs) {
  EXPECT_EQ(read(1, 3, 0x00), 0x7113'8086u);
  EXPECT_EQ(read(1, 3, 0x80) & 1, 1u) << "the ports are decoded";
  EXPECT_EQ(read(1, 3, 0x40) & ~1u, 0x600u);
  write(1, 3, 0x40, 0xb001);
  write(1, 3, 0x80, 0);
  EXPECT_EQ(read(1, 3, 0x40) & ~1u, 0x600u) << "it cannot be moved";
  EXPECT_EQ(read(1, 3, 0x80) & 1, 1u);
}

TEST_F(PiixTest, HidesTheTimersFunctionFromThoseWhoProbeFunctionZero) {
  EXPECT_EQ(read(1, 0, 0x00), kNothing);
  PciFunction device({.vendor = 0x1af4, .device = 0x1044}, nullptr);
  EXPECT_TRUE(host_.attach(1, device, 0));
  EXPECT_EQ(read(1, 0, 0x00), 0x1044'1af4u);
  EXPECT_EQ(read(1, 0, 0x0c) >> 16 & 0x80, 0u) << "one function";
  EXPECT_EQ(read(1, 3, 0x00), 0x7113'8086u);
}

// edk2, OvmfPkg/SioBusDxe/SioBusDxe.c: it wants a bridge to ISA whose Command register has both
// bits, and PciBusDxe clears and sets them to see which of them there are.
TEST_F(PiixTest, IsABridgeToIsaThatDecodesBothSpaces) {
  EXPECT_EQ(read(0, 0, 0x0c) >> 16 & 0x80, 0x80u) << "the host bridge announces it";
  EXPECT_EQ(read(0, 1, 0x08) >> 8, 0x060100u);
  EXPECT_EQ(read(0, 1, 0x04) & 3, 3u);
  write(0, 1, 0x04, 0);
  EXPECT_EQ(read(0, 1, 0x04) & 3, 0u);
  write(0, 1, 0x04, 3);
  EXPECT_EQ(read(0, 1, 0x04) & 3, 3u);
}

TEST_F(PiixTest, LeavesAllOtherFunctionsOut) {
  for (uint32_t slot = 0; slot < 32; ++slot)
    for (uint32_t function = 0; function < 8; ++function) {
      const bool there = (slot == 0 && function < 2) || (slot == 1 && function == 3);
      EXPECT_EQ(read(slot, function, 0) != kNothing, there) << slot << '.' << function;
    }
}

TEST_F(PiixTest, TakesAPlaceOnce) {
  PciFunction other({}, nullptr);
  EXPECT_FALSE(host_.attach_further(1, 3, other));
  EXPECT_FALSE(host_.attach_further(1, 0, other)) << "function 0 is attach()'s";
  EXPECT_FALSE(host_.attach_further(1, 8, other));
  EXPECT_FALSE(host_.attach_further(32, 1, other));
  EXPECT_TRUE(host_.attach_further(31, 7, other));
}

}  // namespace
}  // namespace wick::devices
