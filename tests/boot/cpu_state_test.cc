#include "boot/cpu_state.h"

#include <gtest/gtest.h>

#include "tests/boot/kernel_files.h"

namespace wick::boot {
namespace {

constexpr uint64_t kAddressBits = 0x000f'ffff'ffff'f000;

// Walks the page tables as the processor does (Intel SDM 3, 4.5).
std::optional<uint64_t> translate(const GuestMemory& memory, uint64_t cr3, uint64_t address) {
  uint64_t table = cr3;
  for (const int shift : {39, 30, 21}) {
    const uint64_t index = address >> shift & 511;
    const uint64_t entry = *memory.read<uint64_t>({table + index * 8});
    if ((entry & 3) != 3) return std::nullopt;
    if (shift == 21) {
      EXPECT_NE(entry & 1 << 7, 0u);
      return (entry & kAddressBits) | (address & ((1 << 21) - 1));
    }
    table = entry & kAddressBits;
  }
  return std::nullopt;
}

TEST(CpuState, LinuxStartsInLongModeWithInterruptsOff) {
  const auto memory = memory_of(2 * kMiB);
  const auto state = linux_64bit_entry(memory, {0x1000200}, {0x1000});
  ASSERT_TRUE(state);
  EXPECT_EQ(state->rip, 0x1000200u);
  EXPECT_EQ(state->rsi, 0x1000u);
  EXPECT_EQ(state->rflags, 2u);
  EXPECT_EQ(state->cr0 & 0x8000'0001, 0x8000'0001u);
  EXPECT_EQ(state->cr4 & 0x20, 0x20u);
  EXPECT_EQ(state->efer, 0x500u);
  EXPECT_EQ(state->cs.selector, 0x10);
  EXPECT_EQ(state->cs.l, 1);
  for (const Segment& segment : {state->ds, state->es, state->ss})
    EXPECT_EQ(segment.selector, 0x18);
}

TEST(CpuState, LinuxFindsTheFirstFourGibibytesMappedToThemselves) {
  const auto memory = memory_of(2 * kMiB);
  const auto state = linux_64bit_entry(memory, {0x1000200}, {0x1000});
  ASSERT_TRUE(state);
  for (uint64_t address = 0; address < 1ULL << 32; address += (2 << 20) - 1)
    ASSERT_EQ(translate(memory, state->cr3, address), address);
  EXPECT_EQ(translate(memory, state->cr3, 0xffff'ffff), 0xffff'ffff);
  EXPECT_EQ(translate(memory, state->cr3, 1ULL << 32), std::nullopt);
}

TEST(CpuState, LinuxMayStartWithFiveLevelsOfPageTables) {
  const auto memory = memory_of(2 * kMiB);
  const auto state = linux_64bit_entry(memory, {0x1000200}, {0x1000}, true);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->cr4 & 1 << 12, 1u << 12);
  const auto top = *memory.read<uint64_t>({state->cr3});
  EXPECT_EQ(top & 3, 3u);
  EXPECT_EQ(translate(memory, top & kAddressBits, 0x1234'5678), 0x1234'5678);
  EXPECT_EQ(*memory.read<uint64_t>({state->cr3 + 8}), 0u);
}

void expect_gdt_agrees(const GuestMemory& memory, const CpuState& state) {
  for (const Segment& segment : {state.cs, state.ds, state.ss, state.tr}) {
    ASSERT_LE(segment.selector + 7, state.gdt.limit);
    const auto entry = *memory.read<uint64_t>({state.gdt.base + segment.selector});
    EXPECT_EQ(entry >> 40 & 15, segment.type);
    EXPECT_EQ(entry >> 44 & 1, segment.s);
    EXPECT_EQ(entry >> 47 & 1, segment.present);
    EXPECT_EQ(entry >> 53 & 1, segment.l);
    EXPECT_EQ(entry >> 54 & 1, segment.db);
    EXPECT_EQ(entry >> 55 & 1, segment.g);
    const uint64_t limit = (entry & 0xffff) | (entry >> 32 & 0xf0000);
    EXPECT_EQ(segment.g ? limit << 12 | 0xfff : limit, segment.limit);
  }
}

TEST(CpuState, TheGdtAgreesWithTheSegments) {
  const auto memory = memory_of(2 * kMiB);
  expect_gdt_agrees(memory, *linux_64bit_entry(memory, {0}, {0x1000}));
  expect_gdt_agrees(memory, *linux_32bit_entry(memory, {0}, {0x1000}));
  expect_gdt_agrees(memory, *pvh_entry(memory, {0}, {0x1000}));
}

TEST(CpuState, A32BitLinuxStartsInProtectedModeWithFlatSegments) {
  const auto memory = memory_of(2 * kMiB);
  const auto state = linux_32bit_entry(memory, {0x1000000}, {0x1000});
  ASSERT_TRUE(state);
  EXPECT_EQ(state->rip, 0x1000000u);
  EXPECT_EQ(state->rsi, 0x1000u);
  EXPECT_EQ(state->rbp | state->rbx, 0u);
  EXPECT_EQ(state->rflags, 2u);
  EXPECT_EQ(state->cr0, 0x11u);  // PE, and ET which cannot be cleared
  EXPECT_EQ(state->efer, 0u);
  EXPECT_EQ(state->cs.selector, 0x10);
  EXPECT_EQ(state->cs.db, 1);
  for (const Segment& segment : {state->cs, state->ds, state->es, state->ss}) {
    EXPECT_EQ(segment.base, 0u);
    EXPECT_EQ(segment.limit, 0xffff'ffffu);
    EXPECT_EQ(segment.selector, segment == state->cs ? 0x10 : 0x18);
  }
}

TEST(CpuState, PvhStartsIn32BitModeWithoutPaging) {
  const auto memory = memory_of(2 * kMiB);
  const auto state = pvh_entry(memory, {0x1000500}, {0x1000});
  ASSERT_TRUE(state);
  EXPECT_EQ(state->rip, 0x1000500u);
  EXPECT_EQ(state->rbx, 0x1000u);
  EXPECT_EQ(state->rflags, 2u);
  EXPECT_EQ(state->cr0, 0x11u);  // PE, and ET which cannot be cleared
  EXPECT_EQ(state->cr4, 0u);
  EXPECT_EQ(state->efer, 0u);
  EXPECT_EQ(state->cs.db, 1);
  EXPECT_EQ(state->cs.l, 0);
  EXPECT_EQ(state->cs.limit, 0xffff'ffffu);
  EXPECT_EQ(state->tr.limit, 0x67u);
  EXPECT_EQ(state->tr.type, 0xb);
}

// ACPI 6.5, 5.2.10: CS has the address without its last four bits, IP those.
TEST(RealModeEntry, StartsAtThePhysicalAddress) {
  const CpuState state = real_mode_entry({0x9'1234});
  EXPECT_EQ(state.cs.selector, 0x9123u);
  EXPECT_EQ(state.cs.base, 0x9'1230u);
  EXPECT_EQ(state.rip, 4u);
  EXPECT_EQ(state.cr0 & 1, 0u);
  EXPECT_EQ(state.efer, 0u);
  EXPECT_EQ(state.ds.limit, 0xffffu);
}

}  // namespace
}  // namespace wick::boot
