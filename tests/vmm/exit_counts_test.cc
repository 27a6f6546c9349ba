#include "vmm/exit_counts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/kvm.h>

namespace wick {
namespace {

using testing::HasSubstr;
using testing::Not;

class Nothing final : public BusDevice {
 public:
  void read(uint64_t, std::span<std::byte>) override {}
  void write(uint64_t, std::span<const std::byte>) override {}
};

TEST(ExitCounts, TheTableNamesPortsAndPagesMostFrequentFirst) {
  Nothing device;
  Bus ports;
  Bus mmio;
  ASSERT_TRUE(ports.attach({0x3f8, 8}, device, "ttyS0"));
  ASSERT_TRUE(mmio.attach({0xd0000000, 0x1000}, device, "vda"));
  ExitCounts counts;
  for (int i = 0; i < 3; ++i) {
    counts.count(KVM_EXIT_IO);
    counts.count_port(0x3f8);
  }
  counts.count(KVM_EXIT_MMIO);
  counts.count_page(0xd0000, true);
  const std::string table = counts.table(ports, mmio);
  EXPECT_EQ(counts.total(), 4u);
  EXPECT_THAT(table, HasSubstr("4  exits to user space"));
  EXPECT_THAT(table, HasSubstr("3  io    port 0x03f8      ttyS0"));
  EXPECT_THAT(table, HasSubstr("1  mmio  page 0x0d0000000 vda"));
  EXPECT_LT(table.find("ttyS0"), table.find("vda"));
}

// A guest may touch any number of pages; what nobody answers is one row.
TEST(ExitCounts, PagesThatNobodyAnswersTakeOneRow) {
  ExitCounts counts;
  for (uint64_t page = 0; page < 100000; ++page) {
    counts.count(KVM_EXIT_MMIO);
    counts.count_page(page, false);
  }
  const std::string table = counts.table(Bus(), Bus());
  EXPECT_THAT(table, HasSubstr("100000  mmio  nobody's"));
  EXPECT_THAT(table, Not(HasSubstr("page")));
}

TEST(ExitCounts, AnExitReasonOfAFutureKernelIsCounted) {
  ExitCounts counts;
  counts.count(~0u);
  EXPECT_EQ(counts.total(), 1u);
}

}  // namespace
}  // namespace wick
