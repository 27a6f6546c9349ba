#include "boot/cmos.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace wick::boot {
namespace {

using Device = CmosPlatform::BootDevice;

constexpr uint64_t kKiB = 1 << 10;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

// The bytes by index. Each is given once.
class Bytes {
 public:
  explicit Bytes(const CmosPlatform& platform) {
    for (const auto& [index, value] : make_cmos(platform)) {
      EXPECT_TRUE(bytes_.emplace(index, value).second) << int{index};
      EXPECT_GE(index, 0x0e) << "the first 14 are the clock's";
      EXPECT_LT(index, 128);
      EXPECT_NE(index, 0x32) << "the century is the clock's";
    }
  }
  uint64_t at(uint8_t index, unsigned size_bytes = 1) const {
    uint64_t value = 0;
    for (unsigned i = 0; i < size_bytes; ++i)
      value |= uint64_t{bytes_.at(static_cast<uint8_t>(index + i))} << (8 * i);
    return value;
  }
  bool contains(uint8_t index) const { return bytes_.contains(index); }

 private:
  std::map<uint8_t, uint8_t> bytes_;
};

// As SeaBIOS computes it (src/fw/paravirt.c, qemu_preinit), also if there is no "etc/e820".
uint64_t low_memory(const Bytes& cmos) {
  const uint64_t units = cmos.at(0x34, 2);
  return units != 0 ? units * 64 * kKiB + 16 * kMiB : cmos.at(0x30, 2) * kKiB + kMiB;
}

TEST(CmosBytes, SayHowMuchMemoryThereIs) {
  for (const uint64_t low : {2 * kMiB, 8 * kMiB, 16 * kMiB, 32 * kMiB, 512 * kMiB, 3 * kGiB}) {
    const Bytes cmos({.low_memory_bytes = low});
    EXPECT_EQ(low_memory(cmos), low);
    EXPECT_EQ(cmos.at(0x15, 2), 640u);
    EXPECT_EQ(cmos.at(0x17, 2), cmos.at(0x30, 2));
    EXPECT_EQ(cmos.at(0x5b, 3), 0u);
  }
}

TEST(CmosBytes, SayHowMuchMemoryIsAboveTheHole) {
  const Bytes cmos({.low_memory_bytes = 3 * kGiB, .high_memory_bytes = 61 * kGiB});
  EXPECT_EQ(cmos.at(0x5b, 3) * 64 * kKiB, 61 * kGiB);
  EXPECT_EQ(low_memory(cmos), 3 * kGiB);
}

TEST(CmosBytes, LimitWhatIsTooLarge) {
  const Bytes cmos({.low_memory_bytes = UINT64_MAX, .high_memory_bytes = UINT64_MAX, .cpus = 1000});
  EXPECT_EQ(cmos.at(0x17, 2), 0xffffu);
  EXPECT_EQ(cmos.at(0x30, 2), 0xffffu);
  EXPECT_EQ(cmos.at(0x34, 2), 0xffffu);
  EXPECT_EQ(cmos.at(0x5b, 3), 0xff'ffffu);
  EXPECT_EQ(cmos.at(0x5f), 0xffu);
  const Bytes none({.cpus = 0});
  EXPECT_EQ(none.at(0x34, 2), 0u);
  EXPECT_EQ(none.at(0x5f), 0u);
}

TEST(CmosBytes, CountTheCpusWithoutTheFirst) {
  EXPECT_EQ(Bytes({.cpus = 1}).at(0x5f), 0u);
  EXPECT_EQ(Bytes({.cpus = 8}).at(0x5f), 7u);
}

// SeaBIOS (src/boot.c, boot_init) takes three values of four bits: 0x3d, and the upper half of
// 0x38.
TEST(CmosBytes, HaveTheBootOrder) {
  const Bytes cmos({.boot_order = {Device::kCd, Device::kNetwork, Device::kDisk}});
  EXPECT_EQ(cmos.at(0x3d) | (cmos.at(0x38) & 0xf0) << 4, 0x243u);
  const Bytes none({.boot_order = {Device::kNone, Device::kNone, Device::kNone}});
  EXPECT_EQ(none.at(0x3d), 0u);
  EXPECT_EQ(none.at(0x38), 0u);
}

TEST(CmosBytes, KnowNoDrivesIfThereAreNone) {
  const Bytes cmos({});
  for (const uint8_t index : std::to_array<uint8_t>({0x0f, 0x10, 0x12, 0x39}))
    EXPECT_EQ(cmos.at(index), 0u) << int{index};
  EXPECT_FALSE(cmos.contains(0x19));
  EXPECT_FALSE(cmos.contains(0x1b));
  EXPECT_EQ(cmos.at(0x14), 0x02u) << "a coprocessor, no floppy, no mouse";
  EXPECT_EQ(Bytes({.has_mouse = true}).at(0x14), 0x06u);
}

TEST(CmosBytes, HaveTheGeometryOfTheFirstTwoIdeDisks) {
  CmosPlatform platform;
  platform.ide_disks[1] = {.cylinders = 0x3fff, .heads = 16, .sectors = 63};
  const Bytes slave(platform);
  EXPECT_EQ(slave.at(0x12), 0x0fu);
  EXPECT_FALSE(slave.contains(0x19));
  EXPECT_EQ(slave.at(0x1a), 47u);
  EXPECT_EQ(slave.at(0x24, 2), 0x3fffu);
  EXPECT_EQ(slave.at(0x26), 16u);
  EXPECT_EQ(slave.at(0x27, 2), 0xffffu);
  EXPECT_EQ(slave.at(0x29), 0xc8u);
  EXPECT_EQ(slave.at(0x2a, 2), 0x3fffu);
  EXPECT_EQ(slave.at(0x2c), 63u);
  platform.ide_disks[0] = {.cylinders = 100, .heads = 4, .sectors = 17};
  const Bytes both(platform);
  EXPECT_EQ(both.at(0x12), 0xffu);
  EXPECT_EQ(both.at(0x19), 47u);
  EXPECT_EQ(both.at(0x1b, 2), 100u);
  EXPECT_EQ(both.at(0x20), 0xc0u);
  EXPECT_EQ(both.at(0x23), 17u);
}

// Two bits for each drive (SeaBIOS, src/disk.c, get_translation); 1 is LBA.
TEST(CmosBytes, TranslateEachIdeDiskByLba) {
  CmosPlatform platform;
  platform.ide_disks[0] = platform.ide_disks[3] = {.cylinders = 20, .heads = 16, .sectors = 63};
  const Bytes cmos(platform);
  EXPECT_EQ(cmos.at(0x39), 0b01'00'00'01u);
  EXPECT_EQ(cmos.at(0x12), 0xf0u) << "the AT knew two drives";
}

}  // namespace
}  // namespace wick::boot
