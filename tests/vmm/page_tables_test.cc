#include "vmm/page_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/processor_flags.h"
#include "tests/fakes/guest_ram.h"

namespace wick::vmm {

bool operator==(const Page& a, const Page& b) {
  return a.linear == b.linear && a.physical == b.physical && a.size_bytes == b.size_bytes &&
         a.entry == b.entry && a.writable == b.writable && a.user == b.user;
}

void PrintTo(const Page& page, std::ostream* out) {
  *out << std::hex << page.linear << " -> " << page.physical << " + " << page.size_bytes
       << ", entry " << page.entry << (page.writable ? " writable" : "")
       << (page.user ? " user" : "");
}

namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;
// Of entries.
constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4, kPageSize = 1 << 7;

CpuRegisters registers(uint64_t cr4, uint64_t efer, uint64_t cr3 = 0x1000) {
  CpuRegisters made;
  made.cr0 = X86_CR0_PG | X86_CR0_PE;
  made.cr3 = cr3;
  made.cr4 = cr4;
  made.efer = efer;
  return made;
}

CpuRegisters long_mode() { return registers(X86_CR4_PAE, EFER_LME | EFER_LMA); }

class Recorder final : public PageVisitor {
 public:
  Next on_table(const PageTable& table) override {
    tables.push_back(table);
    return table.address == skipped ? Next::kSkip : table.address == end ? Next::kEnd : Next::kRead;
  }
  bool on_page(const Page& page) override {
    pages.push_back(page);
    return pages.size() < max_pages;
  }

  uint64_t skipped = UINT64_MAX;  // the address of a table
  uint64_t end = UINT64_MAX;
  size_t max_pages = SIZE_MAX;
  std::vector<PageTable> tables;
  std::vector<Page> pages;
};

class PageTables : public ::testing::Test {
 protected:
  void entry(uint64_t table, uint64_t index, uint64_t value) {
    ASSERT_TRUE(memory_.write<uint64_t>({table + index * 8}, value));
  }
  void entry32(uint64_t table, uint64_t index, uint32_t value) {
    ASSERT_TRUE(memory_.write<uint32_t>({table + index * 4}, value));
  }
  bool walk(const CpuRegisters& registers, LinearRange range = {}) {
    return walk_page_tables(Paging::of(registers).value(), memory_, found_, range);
  }

  const GuestMemory memory_ = fakes::memory_of(kRamBytes);
  Recorder found_;
};

TEST_F(PageTables, HaveTheFormThatTheControlRegistersSay) {
  CpuRegisters off = long_mode();
  off.cr0 = X86_CR0_PE;
  EXPECT_EQ(Paging::of(off), std::nullopt);
  constexpr uint64_t kCr3 = 0x8012'3456'789a'bcff;
  using Mode = Paging::Mode;
  EXPECT_EQ(Paging::of(registers(X86_CR4_PAE, EFER_LMA, kCr3)),
            (Paging{Mode::kLong, 4, true, 0x2'3456'789a'b000}));
  EXPECT_EQ(Paging::of(registers(X86_CR4_PAE | X86_CR4_LA57, EFER_LMA, kCr3))->levels, 5u);
  EXPECT_EQ(Paging::of(registers(X86_CR4_PAE, EFER_LME, kCr3)),
            (Paging{Mode::kPae, 3, true, 0x789a'bce0}));
  EXPECT_EQ(Paging::of(registers(X86_CR4_PSE, 0, kCr3)),
            (Paging{Mode::k32Bit, 2, true, 0x789a'b000}));
  EXPECT_FALSE(Paging::of(registers(0, 0))->large_pages);
}

TEST_F(PageTables, GiveTheRightsThatAllLevelsAllow) {
  entry(0x1000, 0, 0x2000 | kPresent | kWritable | kUser);
  entry(0x2000, 0, 0x3000 | kPresent | kWritable);
  entry(0x2000, 1, kGiB | kPageSize | kPresent | kUser);
  entry(0x3000, 1, 2 * kMiB | kPageSize | kPresent | kWritable | kUser);
  EXPECT_TRUE(walk(long_mode()));
  EXPECT_THAT(found_.pages, ElementsAre(Page{.linear = 2 * kMiB,
                                             .physical = 2 * kMiB,
                                             .size_bytes = 2 * kMiB,
                                             .entry = 2 * kMiB | 0x87,
                                             .writable = true},
                                        Page{.linear = kGiB,
                                             .physical = kGiB,
                                             .size_bytes = kGiB,
                                             .entry = kGiB | 0x85,
                                             .user = true}));
}

TEST_F(PageTables, AreVisitedInTheOrderOfLinearAddresses) {
  entry(0x1000, 256, 0x2000 | kPresent);
  entry(0x2000, 511, 0x3000 | kPresent);
  entry(0x3000, 2, 0x4000 | kPresent);
  entry(0x4000, 511, 0x9000 | kPresent);
  EXPECT_TRUE(walk(long_mode()));
  constexpr uint64_t kHalf = 0xffff'8000'0000'0000;
  EXPECT_THAT(found_.tables,
              ElementsAre(PageTable{0x1000, 4, 0, 512}, PageTable{0x2000, 3, kHalf, 512},
                          PageTable{0x3000, 2, kHalf + 511 * kGiB, 512},
                          PageTable{0x4000, 1, kHalf + 511 * kGiB + 4 * kMiB, 512}));
  EXPECT_THAT(found_.pages,
              ElementsAre(Field(&Page::linear, kHalf + 511 * kGiB + 6 * kMiB - 4096)));
}

TEST_F(PageTables, OfPaeBeginWithFourEntriesWithoutRightsOrLargePages) {
  entry(0x1020, 1, 0x2000 | kPresent | kPageSize);
  entry(0x1020, 4, 0x2000 | kPresent);  // behind them
  entry(0x2000, 0, 2 * kMiB | kPageSize | kPresent | kWritable);
  EXPECT_TRUE(walk(registers(X86_CR4_PAE, 0, 0x1020)));
  EXPECT_THAT(found_.tables,
              ElementsAre(PageTable{0x1020, 3, 0, 4}, PageTable{0x2000, 2, kGiB, 512}));
  EXPECT_THAT(found_.pages, ElementsAre(Page{.linear = kGiB,
                                             .physical = 2 * kMiB,
                                             .size_bytes = 2 * kMiB,
                                             .entry = 2 * kMiB | 0x83,
                                             .writable = true}));
}

TEST_F(PageTables, Of32BitsHaveLargePagesAbove4GiB) {
  entry32(0x1000, 1023, 0xffc0'0000 | 0xff << 13 | kPageSize | kPresent);
  EXPECT_TRUE(walk(registers(X86_CR4_PSE, 0)));
  EXPECT_THAT(found_.pages, ElementsAre(Page{.linear = 0xffc0'0000,
                                             .physical = 0xff'ffc0'0000,
                                             .size_bytes = 4 * kMiB,
                                             .entry = 0xffdf'e081}));
}

TEST_F(PageTables, AreLeftOutOutsideTheRange) {
  entry(0x1000, 0, 0x2000 | kPresent);
  entry(0x1000, 1, 0x1000 | kPresent);
  for (uint64_t i = 0; i < 4; ++i) entry(0x2000, i, i * kGiB | kPageSize | kPresent);
  EXPECT_TRUE(walk(long_mode(), {.first = 2 * kGiB - 1, .last = 2 * kGiB}));
  EXPECT_THAT(found_.pages,
              ElementsAre(Field(&Page::linear, kGiB), Field(&Page::linear, 2 * kGiB)));
  EXPECT_EQ(found_.tables.size(), 2u);
}

TEST_F(PageTables, AreSkippedOrLastIfTheVisitorWantsIt) {
  entry(0x1000, 0, 0x2000 | kPresent);
  entry(0x1000, 1, 0x3000 | kPresent);
  entry(0x1000, 2, 0x4000 | kPresent);
  for (const uint64_t table : {0x2000u, 0x3000u}) entry(table, 0, kPageSize | kPresent);
  found_.skipped = 0x2000;
  found_.end = 0x4000;
  EXPECT_FALSE(walk(long_mode()));
  EXPECT_THAT(found_.pages, ElementsAre(Field(&Page::linear, 512 * kGiB)));
  found_ = {};
  found_.max_pages = 1;
  EXPECT_FALSE(walk(long_mode()));
  EXPECT_EQ(found_.pages.size(), 1u);
}

TEST_F(PageTables, ThatReferToThemselvesEndWhenTheVisitorEndsThem) {
  for (uint64_t i = 0; i < 512; ++i) entry(0x1000, i, 0x1000 | kPresent | kPageSize);
  found_.max_pages = 1'000'000;
  EXPECT_FALSE(walk(registers(X86_CR4_PAE | X86_CR4_LA57, EFER_LMA)));
  EXPECT_EQ(found_.pages.size(), 1'000'000u);
}

TEST_F(PageTables, OutsideRamHaveNoPages) {
  EXPECT_TRUE(walk(registers(X86_CR4_PAE, EFER_LMA, kRamBytes)));
  EXPECT_TRUE(walk(registers(X86_CR4_PAE, EFER_LMA, 0x000f'ffff'ffff'f000)));
  EXPECT_TRUE(walk(registers(X86_CR4_PAE, 0, 0xffff'ffe0)));
  EXPECT_TRUE(walk(registers(0, 0, 0xffff'f000)));
  EXPECT_THAT(found_.pages, IsEmpty());
}

}  // namespace
}  // namespace wick::vmm
