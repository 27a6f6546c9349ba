#include "base/guest_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <vector>

namespace wick {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

GuestMemory make(std::vector<GuestMemory::Range> ranges) {
  return GuestMemory::create(ranges).value();
}

TEST(GuestMemory, BeginsAsZeroes) {
  const auto memory = make({{{0}, kMiB}});
  EXPECT_TRUE(std::ranges::all_of(memory.slice({0}, kMiB).value(),
                                  [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST(GuestMemory, ReadsWhatWasWritten) {
  const auto memory = make({{{0}, kMiB}});
  const uint64_t value = 0x1122334455667788;
  ASSERT_TRUE(memory.write(GuestAddress{0x1003}, value));  // unaligned
  EXPECT_EQ(memory.read<uint64_t>({0x1003}), value);
  EXPECT_EQ(memory.read<uint8_t>({0x1003}), 0x88);
  EXPECT_EQ(memory.slice({0x1004}, 1).value()[0], std::byte{0x77});
}

TEST(GuestMemory, ReachesExactlyToTheEndOfARegion) {
  const auto memory = make({{{0x1000}, 0x2000}});
  EXPECT_TRUE(memory.slice({0x1000}, 0x2000));
  EXPECT_TRUE(memory.slice({0x2fff}, 1));
  EXPECT_TRUE(memory.read<uint64_t>({0x2ff8}));
  EXPECT_FALSE(memory.slice({0x1000}, 0x2001));
  EXPECT_FALSE(memory.slice({0x2fff}, 2));
  EXPECT_FALSE(memory.read<uint64_t>({0x2ff9}));
  EXPECT_FALSE(memory.write(GuestAddress{0x2ffd}, uint32_t{1}));
  EXPECT_FALSE(memory.slice({0x3000}, 1));
  EXPECT_FALSE(memory.slice({0xfff}, 1));
  EXPECT_FALSE(memory.slice({0xfff}, 2));
}

TEST(GuestMemory, RefusesLengthsThatWrap) {
  const auto memory = make({{{0x1000}, 0x2000}});
  for (const uint64_t address :
       std::to_array<uint64_t>({0x1000, 0x1001, 0x2fff, ~0ull, 1ull << 63}))
    for (const size_t size :
         std::to_array<size_t>({~0ull, ~0ull - 0xfff, ~0ull - 0x1000, 1ull << 63}))
      EXPECT_FALSE(memory.slice({address}, size)) << address << " + " << size;
  EXPECT_FALSE(memory.slice(GuestAddress{~0ull} + 0x1000, ~0ull));
}

TEST(GuestMemory, HasAHoleBetweenItsRegions) {
  const auto memory = make({{{0}, kMiB}, {{4 * kGiB}, kMiB}});
  EXPECT_TRUE(memory.slice({4 * kGiB}, kMiB));
  EXPECT_FALSE(memory.slice({kMiB}, 1));
  EXPECT_FALSE(memory.slice({kMiB - 1}, 2));
  EXPECT_FALSE(memory.slice({4 * kGiB - 1}, 2));
  EXPECT_FALSE(memory.slice({0}, 4 * kGiB + kMiB));
  EXPECT_EQ(memory.size_bytes(), 2 * kMiB);
}

// The regions are two separate mappings of the host.
TEST(GuestMemory, DoesNotJoinRegionsThatTouch) {
  const auto memory = make({{{0}, 0x1000}, {{0x1000}, 0x1000}});
  EXPECT_TRUE(memory.slice({0xfff}, 1));
  EXPECT_TRUE(memory.slice({0x1000}, 1));
  EXPECT_FALSE(memory.slice({0xfff}, 2));
}

TEST(GuestMemory, WritesNothingWhenTheEndIsOutside) {
  const auto memory = make({{{0}, 0x1000}});
  const std::array<std::byte, 16> bytes = {std::byte{1}, std::byte{2}};
  EXPECT_FALSE(memory.write_bytes({0xff8}, bytes));
  EXPECT_EQ(memory.read<uint64_t>({0xff8}), 0u);
  EXPECT_TRUE(memory.write_bytes({0xff0}, bytes));
}

TEST(GuestMemory, RefusesRangesThatAreNotRam) {
  using Ranges = std::vector<GuestMemory::Range>;
  for (const Ranges& ranges : {
           Ranges{{{0}, 0}},                           // empty
           Ranges{{{0}, 0x1001}},                      // half a page
           Ranges{{{0x800}, 0x1000}},                  // not on a page
           Ranges{{{0}, 0x2000}, {{0x1000}, 0x1000}},  // overlap
           Ranges{{{0x2000}, 0x1000}, {{0}, 0x1000}},  // not sorted
           Ranges{{{~0ull - 0xfff}, 0x2000}},          // wraps
       }) {
    EXPECT_FALSE(GuestMemory::create(ranges));
  }
}

TEST(GuestMemory, RefusesMoreThanTheHostCanMap) {
  for (const uint64_t size : {1ull << 50, 1ull << 63, ~0ull - 0xfff, ~0ull - 0x1fffff}) {
    const std::array ranges = {GuestMemory::Range{{0}, size}};
    const auto memory = GuestMemory::create(ranges);
    ASSERT_FALSE(memory) << size;
    EXPECT_FALSE(memory.error().message().empty());
  }
}

TEST(GuestMemory, MayBeLargerThanTheHost) {
  const auto memory = make({{{0}, 3 * kGiB}, {{4 * kGiB}, 509 * kGiB}});
  EXPECT_TRUE(memory.slice({4 * kGiB}, 509 * kGiB));
}

TEST(GuestMemory, AllowsHugePages) {
  const auto memory = make({{{0}, kMiB}, {{kGiB}, 64 * kMiB}});
  for (const auto& region : memory.regions())
    EXPECT_EQ(reinterpret_cast<uint64_t>(region.host) % (2 * kMiB), 0u);
}

TEST(GuestMemory, DiscardGivesPagesBackAndLeavesTheirNeighbours) {
  const auto memory = make({{{0}, kMiB}, {{kGiB}, 8 * kMiB}});
  const auto all = *memory.slice({kGiB}, 8 * kMiB);
  std::ranges::fill(all, std::byte{0xaa});
  ASSERT_TRUE(memory.discard({kGiB + 0x1000}, 0x2000));
  ASSERT_TRUE(memory.discard({kGiB + 4 * kMiB}, 2 * kMiB));
  ASSERT_TRUE(memory.discard({kGiB}, 0));
  EXPECT_EQ(all[0xfff], std::byte{0xaa});
  EXPECT_EQ(all[0x3000], std::byte{0xaa});
  EXPECT_EQ(all[6 * kMiB], std::byte{0xaa});
  std::array<unsigned char, 512> resident{};
  ASSERT_EQ(::mincore(&all[4 * kMiB], 2 * kMiB, resident.data()), 0);
  EXPECT_EQ(std::ranges::count(resident, 0), 512);
  const auto zero = [](std::byte b) { return b == std::byte{0}; };
  EXPECT_TRUE(std::ranges::all_of(all.subspan(0x1000, 0x2000), zero));
  EXPECT_TRUE(std::ranges::all_of(all.subspan(4 * kMiB, 2 * kMiB), zero));
}

TEST(GuestMemory, RefusesToDiscardWhatIsNotWholePagesOfRam) {
  const auto memory = make({{{0}, kMiB}, {{kGiB}, kMiB}});
  const auto all = *memory.slice({0}, kMiB);
  std::ranges::fill(all, std::byte{0xaa});
  EXPECT_FALSE(memory.discard({1}, 0x1000));
  EXPECT_FALSE(memory.discard({0}, 0xfff));
  EXPECT_FALSE(memory.discard({0x800}, 0x800));
  EXPECT_FALSE(memory.discard({kMiB - 0x1000}, 0x2000));
  EXPECT_FALSE(memory.discard({0}, 2 * kGiB));
  EXPECT_FALSE(memory.discard({kMiB}, 0x1000));
  EXPECT_FALSE(memory.discard({~0ull - 0xfff}, 0x2000));
  EXPECT_TRUE(std::ranges::all_of(all, [](std::byte b) { return b == std::byte{0xaa}; }));
}

TEST(GuestMemory, MovesWithItsContent) {
  auto memory = make({{{0}, kMiB}});
  ASSERT_TRUE(memory.write(GuestAddress{64}, uint32_t{7}));
  const GuestMemory moved = std::move(memory);
  EXPECT_EQ(moved.read<uint32_t>({64}), 7u);
}

}  // namespace
}  // namespace wick
