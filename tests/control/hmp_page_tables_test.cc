// info mem and info tlb.
#include <gmock/gmock.h>

#include "base/processor_flags.h"
#include "tests/control/session_fixture.h"

namespace wick::control {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPaging = X86_CR0_PG | X86_CR0_PE, kLongMode = EFER_LME | EFER_LMA;

class HmpPageTables : public ControlTest {
 protected:
  void entry(uint64_t address, uint64_t value) {
    ASSERT_TRUE(machine.memory().write(GuestAddress{address}, value).has_value());
  }
  void entry32(uint64_t address, uint32_t value) {
    ASSERT_TRUE(machine.memory().write(GuestAddress{address}, value).has_value());
  }
  vmm::CpuRegisters& r = machine.registers_[0];
};

TEST_F(HmpPageTables, AreOffWithoutPaging) {
  EXPECT_EQ(monitor("info mem"), "PG disabled\n");
  EXPECT_EQ(monitor("info tlb"), "PG disabled\n");
}

TEST_F(HmpPageTables, HaveFourLevels) {
  r.cr0 = kPaging, r.cr4 = X86_CR4_PAE, r.efer = kLongMode, r.cr3 = 0x1000;
  entry(0x1000 + 8 * 256, 0x2003);  // the upper half
  entry(0x2000, 0x3003);
  entry(0x3000, 0x4003);                 // a table
  entry(0x3008, 0x400083 | 1ull << 63);  // 2 MiB, not executable
  entry(0x4000, 0x5067);                 // user, but not above: a kernel's page
  entry(0x4008, 0x6001);                 // read-only
  entry(0x2008, 0x40000083);             // 1 GiB
  EXPECT_EQ(monitor("info mem"),
            "ffff800000000000-ffff800000001000 0000000000001000 -rw\n"
            "ffff800000001000-ffff800000002000 0000000000001000 -r-\n"
            "ffff800000200000-ffff800000400000 0000000000200000 -rw\n"
            "ffff800040000000-ffff800080000000 0000000040000000 -rw\n");
  EXPECT_EQ(monitor("info tlb"),
            "ffff800000000000: 0000000000005000 ---DA--UW\n"
            "ffff800000001000: 0000000000006000 ---------\n"
            "ffff800000200000: 0000000000400000 X-P-----W\n"
            "ffff800040000000: 0000000040000000 --P-----W\n");
}

TEST_F(HmpPageTables, HaveFiveLevels) {
  r.cr0 = kPaging, r.cr4 = X86_CR4_PAE | X86_CR4_LA57, r.efer = kLongMode, r.cr3 = 0x1000;
  entry(0x1000 + 8 * 511, 0x2007);
  entry(0x2000, 0x3007);
  entry(0x3000, 0x87);
  EXPECT_EQ(monitor("info mem"), "ffff000000000000-ffff000040000000 0000000040000000 urw\n");
}

TEST_F(HmpPageTables, HaveThreeLevelsWithPae) {
  r.cr0 = kPaging, r.cr4 = X86_CR4_PAE, r.cr3 = 0x1020;
  entry(0x1020 + 8 * 3, 0x2001);  // its root has no rights
  entry(0x2000, 0x200087);
  EXPECT_EQ(monitor("info mem"), "00000000c0000000-00000000c0200000 0000000000200000 urw\n");
}

TEST_F(HmpPageTables, HaveTwoLevelsOn32Bit) {
  r.cr0 = kPaging, r.cr4 = X86_CR4_PSE, r.cr3 = 0x1000;
  entry32(0x1000, 0x2007);
  entry32(0x1004, 0x00402087 | 1 << 13);  // 4 MiB above 4 GiB (PSE-36)
  entry32(0x2000, 0x3005);
  EXPECT_EQ(monitor("info tlb"),
            "0000000000000000: 0000000000003000 -------U-\n"
            "0000000000400000: 0000000100400000 --P----UW\n");
}

TEST_F(HmpPageTables, MayReferToThemselves) {
  r.cr0 = kPaging, r.cr4 = X86_CR4_PAE, r.efer = kLongMode, r.cr3 = 0x1000;
  for (uint64_t i = 0; i < 512; ++i) entry(0x1000 + 8 * i, 0x1007);
  const std::string tlb = monitor("info tlb");
  EXPECT_LT(tlb.size(), 2u << 20);
  EXPECT_THAT(tlb, HasSubstr("(cut: there is too much)"));
  // All is one range with equal rights, so that only the number of entries ends it.
  EXPECT_THAT(monitor("info mem"), HasSubstr("(cut: there is too much)"));
}

TEST_F(HmpPageTables, MayBeWhereThereIsNoMemory) {
  r.cr0 = kPaging, r.cr4 = X86_CR4_PAE, r.efer = kLongMode, r.cr3 = 0xffffffffff000;
  EXPECT_EQ(monitor("info mem"), "");
}

}  // namespace
}  // namespace wick::control
