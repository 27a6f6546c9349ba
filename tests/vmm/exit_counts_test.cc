#include "vmm/exit_counts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/kvm.h>

namespace wick::vmm {
namespace {

// A device with one named register.
class Device final : public BusDevice {
 public:
  void read(uint64_t, std::span<std::byte>) override {}
  void write(uint64_t, std::span<const std::byte>) override {}
  Name name_of(uint64_t offset, bool write) const override {
    if (offset != 0) return {};
    return {write ? "OUT" : "IN", {}};
  }
};

constexpr VmExit io(uint64_t port, bool write) {
  return {.address = port, .reason = KVM_EXIT_IO, .size_bytes = 1, .write = write};
}
constexpr VmExit mmio(uint64_t address) {
  return {.address = address, .reason = KVM_EXIT_MMIO, .size_bytes = 4, .write = false};
}

class ExitCountsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ports_.attach({0x3f8, 8}, device_, "ttyS0"));
    ASSERT_TRUE(mmio_.attach({0xd0000000, 0x1000}, device_, "vda"));
    counts_.start();
  }
  void count(const VmExit& exit) {
    counts_.left_guest();
    counts_.count(exit);
  }
  uint64_t count_of(const std::string& reason, const std::string& device, const std::string& reg,
                    bool write) {
    RunStats stats;
    counts_.add_to(stats);
    uint64_t found = 0;
    for (const ExitRow& row : stats.exits)
      if (row.reason == reason && row.device == device && row.reg == reg && row.write == write)
        found += row.count;
    return found;
  }

  Device device_;
  Bus ports_;
  Bus mmio_;
  ExitCounts counts_{ports_, mmio_};
};

TEST_F(ExitCountsTest, RegistersAreCountedByNameAndDirection) {
  for (int i = 0; i < 3; ++i) count(io(0x3f8, true));
  count(io(0x3f8, false));
  count(io(0x3fa, false));
  count(io(0x3fb, false));
  count(mmio(0xd0000000));
  count({.reason = KVM_EXIT_INTR});
  EXPECT_EQ(count_of("io", "ttyS0", "OUT", true), 3u);
  EXPECT_EQ(count_of("io", "ttyS0", "IN", false), 1u);
  EXPECT_EQ(count_of("io", "ttyS0", "", false), 2u);
  EXPECT_EQ(count_of("mmio", "vda", "IN", false), 1u);
  EXPECT_EQ(count_of("intr", "", "", false), 1u);
}

// A guest may touch any number of pages.
TEST_F(ExitCountsTest, WhatNobodyAnswersIsOneRow) {
  for (uint64_t page = 0; page < 100000; ++page) count(mmio(page << 12));
  RunStats stats;
  counts_.add_to(stats);
  ASSERT_EQ(stats.exits.size(), 1u);
  EXPECT_EQ(stats.exits[0].count, 100000u);
  EXPECT_EQ(stats.exits[0].device, "");
}

TEST_F(ExitCountsTest, TimeInUserSpaceIsPartOfTheWhole) {
  for (int i = 0; i < 1000; ++i) count(io(0x3f8, true));
  RunStats stats;
  counts_.add_to(stats);
  EXPECT_GT(stats.exits[0].user_ns, 0u);
  EXPECT_LE(stats.exits[0].user_ns, stats.vcpu_ns);
}

TEST_F(ExitCountsTest, SeveralCpusAddUp) {
  count(io(0x3f8, true));
  RunStats stats;
  counts_.add_to(stats);
  counts_.add_to(stats);
  ASSERT_EQ(stats.exits.size(), 1u);
  EXPECT_EQ(stats.exits[0].count, 2u);
}

TEST_F(ExitCountsTest, AnExitReasonOfAFutureKernelIsCounted) {
  count({.reason = 12345});
  EXPECT_EQ(count_of("reason 12345", "", "", false), 1u);
}

TEST_F(ExitCountsTest, AnExitIsDescribedByWhatWasAccessed) {
  EXPECT_EQ(describe(io(0x3f8, true), ports_, mmio_), "write of 1 byte to port 0x3f8 (ttyS0 OUT)");
  EXPECT_EQ(describe(io(0x3fa, false), ports_, mmio_), "read of 1 byte from port 0x3fa (ttyS0)");
  EXPECT_EQ(describe(mmio(0xe0000000), ports_, mmio_),
            "read of 4 bytes from address 0xe0000000 (no device)");
  EXPECT_EQ(describe({.reason = KVM_EXIT_INTR}, ports_, mmio_), "intr");
}

}  // namespace
}  // namespace wick::vmm
