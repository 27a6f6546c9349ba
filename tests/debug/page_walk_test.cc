#include "debug/page_walk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/processor_flags.h"
#include "tests/fakes/guest_ram.h"

namespace wick::debug {

void PrintTo(const Mapping& mapping, std::ostream* out) {
  *out << std::hex << mapping.linear << " -> " << mapping.physical << " + " << mapping.size_bytes;
}

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr uint64_t kPresent = 1;
constexpr uint64_t kLarge = 1 << 7;
constexpr uint64_t kGiB = 1 << 30;
constexpr uint64_t kMiB = 1 << 20;

vmm::CpuRegisters long_mode(uint64_t root) {
  vmm::CpuRegisters cpu;
  cpu.cr0 = X86_CR0_PG | X86_CR0_PE;
  cpu.cr3 = root;
  cpu.cr4 = X86_CR4_PAE;
  cpu.efer = EFER_LME | EFER_LMA;
  return cpu;
}

class PageWalk : public ::testing::Test {
 protected:
  void entry(uint64_t table, uint64_t index, uint64_t value) {
    ASSERT_TRUE(memory_.write<uint64_t>({table + index * 8}, value));
  }
  void entry32(uint64_t table, uint64_t index, uint32_t value) {
    ASSERT_TRUE(memory_.write<uint32_t>({table + index * 4}, value));
  }
  std::vector<Mapping> walk(const std::vector<vmm::CpuRegisters>& cpus) {
    const auto found = walk_page_tables(memory_, cpus);
    EXPECT_TRUE(found) << found.error().message();
    return found.value_or(std::vector<Mapping>{});
  }

  const GuestMemory memory_ = fakes::memory_of(kRamBytes);
};

TEST_F(PageWalk, EndsInTablesThatReferToThemselves) {
  for (uint64_t i = 0; i < 512; ++i) entry(0x1000, i, 0x1000 | kPresent);
  const auto found = walk_page_tables(memory_, std::vector{long_mode(0x1000)});
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message(), HasSubstr("map more than 1048576 ranges"));
  const auto few = walk_page_tables(memory_, std::vector{long_mode(0x1000)}, {.tables = 100});
  ASSERT_FALSE(few);
  EXPECT_THAT(few.error().message(), HasSubstr("page tables are more than 100"));
}

TEST_F(PageWalk, EndsInTablesThatMapTooManyRanges) {
  entry(0x1000, 0, 0x2000 | kPresent);
  entry(0x2000, 0, 0x3000 | kPresent);
  for (uint64_t i = 0; i < 512; i += 2) entry(0x3000, i, i * 2 * kMiB | kLarge | kPresent);
  const auto found = walk_page_tables(memory_, std::vector{long_mode(0x1000)}, {.mappings = 255});
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message(), HasSubstr("more than 255 ranges"));
  EXPECT_TRUE(walk_page_tables(memory_, std::vector{long_mode(0x1000)}, {.mappings = 256}));
}

TEST_F(PageWalk, EndsWhenItIsToldTo) {
  std::stop_source stop;
  stop.request_stop();
  const auto found =
      walk_page_tables(memory_, std::vector{long_mode(0x1000)}, {}, stop.get_token());
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ECANCELED);
}

TEST_F(PageWalk, TakesTablesOutsideRamForEmpty) {
  EXPECT_THAT(walk({long_mode(kRamBytes)}), IsEmpty());
  EXPECT_THAT(walk({long_mode(0x000f'ffff'ffff'f000)}), IsEmpty());
  for (uint64_t i = 0; i < 512; ++i) entry(0x1000, i, 0x000f'ffff'ffff'f000 | kPresent);
  EXPECT_THAT(walk({long_mode(0x1000)}), IsEmpty());
}

TEST_F(PageWalk, FindsNothingWithoutPaging) {
  vmm::CpuRegisters cpu = long_mode(0x1000);
  entry(0x1000, 0, 0x1000 | kPresent);
  cpu.cr0 = X86_CR0_PE;
  EXPECT_THAT(walk({cpu}), IsEmpty());
  EXPECT_THAT(walk({}), IsEmpty());
}

TEST_F(PageWalk, FindsPagesOfAllSizesInBothHalves) {
  entry(0x1000, 0, 0x2000 | kPresent);
  entry(0x1000, 511, 0x5000 | kPresent);
  entry(0x2000, 1, kGiB | kLarge | kPresent);
  entry(0x2000, 0, 0x3000 | kPresent);
  entry(0x3000, 2, 6 * kMiB | kLarge | kPresent);
  entry(0x3000, 0, 0x4000 | kPresent);
  entry(0x4000, 3, 0x9000 | kPresent | uint64_t{1} << 63);  // XD is not an address
  entry(0x4000, 4, 0xb000);                                 // not present
  entry(0x5000, 510, 0x8000'0000 | kLarge | kPresent);
  EXPECT_THAT(
      walk({long_mode(0x1fff)}),
      ElementsAre(Mapping{0x3000, 0x9000, 4096}, Mapping{4 * kMiB, 6 * kMiB, 2 * kMiB},
                  Mapping{kGiB, kGiB, kGiB}, Mapping{0xffff'ffff'8000'0000, 0x8000'0000, kGiB}))
      << "the low bits of CR3 are flags";
}

TEST_F(PageWalk, FindsTheLastPageOfTheAddressSpace) {
  entry(0x1000, 511, 0x2000 | kPresent);
  entry(0x2000, 511, kLarge | kPresent);
  EXPECT_THAT(walk({long_mode(0x1000)}), ElementsAre(Mapping{0 - kGiB, 0, kGiB}));
}

TEST_F(PageWalk, LooksOnlyWhereItIsTold) {
  entry(0x1000, 0, 0x2000 | kPresent);
  entry(0x1000, 511, 0x1000 | kPresent);  // its walk would never end
  for (uint64_t i = 0; i < 4; ++i) entry(0x2000, i, i * 2 * kGiB | kLarge | kPresent);
  const auto found = walk_page_tables(memory_, std::vector{long_mode(0x1000)},
                                      {.tables = 2, .first = kGiB + 1, .last = 3 * kGiB - 1});
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_THAT(*found,
              ElementsAre(Mapping{kGiB, 2 * kGiB, kGiB}, Mapping{2 * kGiB, 4 * kGiB, kGiB}));
}

TEST_F(PageWalk, KnowsFiveLevels) {
  vmm::CpuRegisters cpu = long_mode(0x1000);
  cpu.cr4 |= X86_CR4_LA57;
  entry(0x1000, 256, 0x2000 | kPresent);
  entry(0x2000, 0, 0x3000 | kPresent);
  entry(0x3000, 0, kLarge | kPresent);
  EXPECT_THAT(walk({cpu}), ElementsAre(Mapping{0xff00'0000'0000'0000, 0, kGiB}));
}

TEST_F(PageWalk, KnowsPae) {
  vmm::CpuRegisters cpu = long_mode(0x1020);
  cpu.efer = 0;
  entry(0x1020, 3, 0x2000 | kPresent);
  entry(0x2000, 511, 0x3000 | kPresent);
  entry(0x2000, 0, 0x1'0020'0000 | kLarge | kPresent);
  entry(0x3000, 511, 0x7000 | kPresent);
  EXPECT_THAT(walk({cpu}), ElementsAre(Mapping{0xc000'0000, 0x1'0020'0000, 2 * kMiB},
                                       Mapping{0xffff'f000, 0x7000, 4096}));
}

TEST_F(PageWalk, Knows32Bits) {
  vmm::CpuRegisters cpu = long_mode(0x1000);
  cpu.efer = 0;
  cpu.cr4 = X86_CR4_PSE;
  entry32(0x1000, 768, 0x0040'0000 | 2 << 13 | kLarge | kPresent);
  entry32(0x1000, 1023, 0x2000 | kPresent);
  entry32(0x2000, 1023, 0x7000 | kPresent);
  EXPECT_THAT(walk({cpu}), ElementsAre(Mapping{0xc000'0000, 0x2'0040'0000, 4 * kMiB},
                                       Mapping{0xffff'f000, 0x7000, 4096}));
  cpu.cr4 = 0;
  entry32(0x1000, 768, 0x3000 | kLarge | kPresent);
  entry32(0x3000, 0, 0x9000 | kPresent);
  EXPECT_THAT(walk({cpu}),
              ElementsAre(Mapping{0xc000'0000, 0x9000, 4096}, Mapping{0xffff'f000, 0x7000, 4096}))
      << "without CR4.PSE there are no large pages";
}

TEST_F(PageWalk, JoinsPagesThatTouchInBothAddresses) {
  entry(0x1000, 0, 0x2000 | kPresent);
  entry(0x2000, 0, 0x3000 | kPresent);
  entry(0x3000, 0, 0x4000 | kPresent);
  entry(0x3000, 1, 2 * kMiB | kLarge | kPresent);
  for (uint64_t i = 0; i < 512; ++i) entry(0x4000, i, i << 12 | kPresent);
  EXPECT_THAT(walk({long_mode(0x1000)}), ElementsAre(Mapping{0, 0, 4 * kMiB}));
  entry(0x4000, 511, 0x5000 | kPresent);
  EXPECT_THAT(walk({long_mode(0x1000)}),
              ElementsAre(Mapping{0, 0, 2 * kMiB - 4096}, Mapping{2 * kMiB - 4096, 0x5000, 4096},
                          Mapping{2 * kMiB, 2 * kMiB, 2 * kMiB}));
}

TEST_F(PageWalk, TakesWhatSeveralCpusMapOnce) {
  entry(0x1000, 0, 0x3000 | kPresent);    // the user's half of one
  entry(0x1000, 511, 0x4000 | kPresent);  // the kernel's
  entry(0x2000, 511, 0x4000 | kPresent);
  entry(0x2000, 0, 0x5000 | kPresent);  // and of another
  entry(0x3000, 0, kGiB | kLarge | kPresent);
  entry(0x4000, 0, 2 * kGiB | kLarge | kPresent);
  entry(0x5000, 0, 3 * kGiB | kLarge | kPresent);
  constexpr uint64_t kKernel = 0xffff'ff80'0000'0000;
  EXPECT_THAT(walk({long_mode(0x1000), long_mode(0x2000), long_mode(0x1000)}),
              ElementsAre(Mapping{0, kGiB, kGiB}, Mapping{0, 3 * kGiB, kGiB},
                          Mapping{kKernel, 2 * kGiB, kGiB}));
}

// Linux maps one page 65536 times for its ESPFIX stacks; 255 vCPUs must not find it 255 times.
TEST_F(PageWalk, WalksTheTablesThatCpusShareOnce) {
  std::vector<vmm::CpuRegisters> cpus;
  for (uint64_t i = 0; i < 100; ++i) {
    cpus.push_back(long_mode(0x10'0000 + i * 4096));
    entry(0x10'0000 + i * 4096, 511, 0x2000 | kPresent);
  }
  entry(0x2000, 0, 0x3000 | kPresent);
  for (uint64_t i = 0; i < 100; ++i) entry(0x3000, i, 0x4000 | kPresent);
  entry(0x4000, 0, 0x5000 | kPresent);
  const auto found = walk_page_tables(memory_, cpus, {.tables = 300});
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found->size(), 100u);
}

}  // namespace
}  // namespace wick::debug
