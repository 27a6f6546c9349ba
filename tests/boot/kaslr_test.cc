#include "boot/kaslr.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/boot/kernel_files.h"

namespace wick::boot {
namespace {

constexpr uint64_t kAlignment = 2 * kMiB;
constexpr uint64_t kSize = 30 * kMiB;

class Kaslr : public ::testing::Test {
 protected:
  KernelPlace choose(const GuestMemory& memory, std::string_view cmdline) const {
    KaslrRequest request = request_;
    request.cmdline = cmdline;
    const auto place = choose_place(memory, request);
    EXPECT_TRUE(place) << message(place);
    return place.value_or(KernelPlace{});
  }

  KaslrRequest request_{.start = {16 * kMiB},
                        .linked_start = 16 * kMiB,
                        .memory_bytes = kSize,
                        .image_bytes = 20 * kMiB,
                        .alignment = kAlignment,
                        .initrd = {},
                        .cmdline = {}};
};

TEST_F(Kaslr, ChoosesAlignedPlacesInRamAndInTheKernelsWindow) {
  const auto memory = memory_of(256 * kMiB);
  std::set<uint64_t> starts;
  std::set<uint64_t> slides;
  for (int i = 0; i < 2000; ++i) {
    const KernelPlace place = choose(memory, "console=ttyS0");
    EXPECT_TRUE(place.randomized);
    EXPECT_EQ(place.start.value % kAlignment, 0u);
    EXPECT_GE(place.start.value, 16 * kMiB);
    EXPECT_LE(place.start.value + kSize, 256 * kMiB);
    EXPECT_EQ(place.slide % kAlignment, 0u);
    EXPECT_LE(16 * kMiB + place.slide + kSize, 1024 * kMiB);
    starts.insert(place.start.value);
    slides.insert(place.slide);
  }
  // 106 and 490 places; that one of the first is never chosen has a probability of 1e-6.
  EXPECT_EQ(starts.size(), (256 - 16 - 30) / 2 + 1u);
  EXPECT_GT(slides.size(), 460u);
}

TEST_F(Kaslr, IsOffWithNokaslr) {
  const auto memory = memory_of(256 * kMiB);
  for (const char* line : {"nokaslr", "quiet nokaslr", "nokaslr\tquiet", "a\nnokaslr"}) {
    const KernelPlace place = choose(memory, line);
    EXPECT_FALSE(place.randomized) << line;
    EXPECT_EQ(place.start.value, 16 * kMiB);
    EXPECT_EQ(place.slide, 0u);
  }
  for (const char* line : {"nokaslr=1", "xnokaslr", "nokaslrx", ""})
    EXPECT_TRUE(choose(memory, line).randomized) << line;
}

TEST_F(Kaslr, AvoidsTheInitrd) {
  const auto memory = memory_of(128 * kMiB);
  request_.initrd = {{64 * kMiB + 4096}, 20 * kMiB};
  for (int i = 0; i < 300; ++i) {
    const uint64_t start = choose(memory, "").start.value;
    EXPECT_TRUE(start + kSize <= 64 * kMiB + 4096 || start >= 84 * kMiB + 4096) << start;
    EXPECT_LE(start + kSize, 128 * kMiB);
  }
}

TEST_F(Kaslr, StaysBelowMem) {
  const auto memory = memory_of(512 * kMiB);
  for (const char* line : {"mem=64M", "mem=0x4000000", "mem=65536k mem=256M", "mem=1G mem=64m"})
    for (int i = 0; i < 100; ++i)
      EXPECT_LE(choose(memory, line).start.value + kSize, 64 * kMiB) << line;
  // As in Linux, these give no limit.
  std::set<uint64_t> starts;
  for (const char* line : {"mem=nopentium", "mem=0", "mem=", "xmem=64M"})
    for (int i = 0; i < 100; ++i) starts.insert(choose(memory, line).start.value);
  EXPECT_GT(*starts.rbegin(), 256 * kMiB);
}

TEST_F(Kaslr, OfTheAddressInRamIsOffIfTheCommandLineReservesMemory) {
  const auto memory = memory_of(256 * kMiB);
  for (const char* line : {"memmap=16M$64M", "hugepagesz=1G hugepages=1"}) {
    std::set<uint64_t> slides;
    for (int i = 0; i < 50; ++i) {
      const KernelPlace place = choose(memory, line);
      EXPECT_EQ(place.start.value, 16 * kMiB) << line;
      slides.insert(place.slide);
    }
    EXPECT_GT(slides.size(), 1u);
  }
}

TEST_F(Kaslr, StaysBelow4GiBAndMayStartBelowItsUsualPlace) {
  const auto memory = memory_of({{{0}, 3072 * kMiB}, {{4096 * kMiB}, 4096 * kMiB}});
  request_.start = {2048 * kMiB};  // as if the initrd had not left another place
  uint64_t lowest = UINT64_MAX;
  for (int i = 0; i < 2000; ++i) {
    const uint64_t start = choose(memory, "").start.value;
    EXPECT_LE(start + kSize, 3072 * kMiB);
    lowest = std::min(lowest, start);
  }
  EXPECT_GE(lowest, 512 * kMiB);
  EXPECT_LT(lowest, 700 * kMiB);
}

TEST_F(Kaslr, KeepsThePlaceIfThereIsNoOther) {
  const auto memory = memory_of(46 * kMiB);
  EXPECT_EQ(choose(memory, "").start.value, 16 * kMiB);
  request_.memory_bytes = 2000 * kMiB;
  const KernelPlace place = choose(memory, "");
  EXPECT_EQ(place.start.value, 16 * kMiB);
  EXPECT_EQ(place.slide, 0u);
}

}  // namespace
}  // namespace wick::boot
