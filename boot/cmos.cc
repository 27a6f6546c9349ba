#include "boot/cmos.h"

#include <algorithm>

namespace wick::boot {

namespace {

// The indexes of the bytes, named as in SeaBIOS if SeaBIOS has a name.
enum Index : uint8_t {
  kFloppyDriveType = 0x10,
  kDiskData = 0x12,
  kEquipmentInfo = 0x14,
  kBaseMemory = 0x15,         // two bytes, KiB; all values are little-endian
  kOldExtendedMemory = 0x17,  // the same value as kExtMem, as the setup program of the AT stored it
  kDiskDrive1Type = 0x19,
  kDiskDrive1Cyl = 0x1b,      // nine bytes: the geometry of disk 1
  kDiskDrive2Cyl = 0x24,      // nine bytes: the geometry of disk 2
  kExtMem = 0x30,             // two bytes: memory above 1 MiB in KiB
  kExtMem2 = 0x34,            // two bytes: memory above 16 MiB in units of 64 KiB
  kBiosBootFlag1 = 0x38,      // bits 4 to 7: the third boot device
  kBiosDiskTransFlag = 0x39,  // two bits for each IDE drive
  kBiosBootFlag2 = 0x3d,      // the first boot device, and in bits 4 to 7 the second one
  kHighMem = 0x5b,            // three bytes: memory above 4 GiB in units of 64 KiB
  kBiosSmpCount = 0x5f,       // the number of CPUs without the first
};

constexpr uint64_t kKiB = 1 << 10;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kBaseMemoryBytes = 640 * kKiB;

class Cmos {
 public:
  // Stores `value` in `size_bytes` bytes. A value that does not fit becomes the highest number that
  // fits.
  void number(uint8_t index, uint64_t value, unsigned size_bytes = 1) {
    value = std::min(value, (uint64_t{1} << (8 * size_bytes)) - 1);
    for (unsigned i = 0; i < size_bytes; ++i)
      bytes_.emplace_back(static_cast<uint8_t>(index + i), static_cast<uint8_t>(value >> (8 * i)));
  }

  std::vector<std::pair<uint8_t, uint8_t>> take() && { return std::move(bytes_); }

 private:
  std::vector<std::pair<uint8_t, uint8_t>> bytes_;
};

uint64_t above(uint64_t size_bytes, uint64_t start) {
  return size_bytes > start ? size_bytes - start : 0;
}

// Describes a drive of the user-defined type 47. In kDiskData all types above 14 appear as 15.
void add_disk(Cmos& cmos, unsigned number, const CmosPlatform::IdeDisk& disk) {
  constexpr uint8_t kUserDefined = 47;
  constexpr uint16_t kNoPrecompensation = 0xffff;
  constexpr uint8_t kNoRetries = 0xc0;
  constexpr uint8_t kMoreThan8Heads = 0x08;
  cmos.number(static_cast<uint8_t>(kDiskDrive1Type + number), kUserDefined);
  const uint8_t at = number == 0 ? kDiskDrive1Cyl : kDiskDrive2Cyl;
  cmos.number(at, disk.cylinders, 2);
  cmos.number(at + 2, disk.heads);
  cmos.number(at + 3, kNoPrecompensation, 2);
  cmos.number(at + 5, kNoRetries | (disk.heads > 8 ? kMoreThan8Heads : 0));
  cmos.number(at + 6, disk.cylinders, 2);  // the landing zone
  cmos.number(at + 8, disk.sectors);
}

void add_disks(Cmos& cmos, const std::array<std::optional<CmosPlatform::IdeDisk>, 4>& disks) {
  constexpr uint8_t kExtendedType = 15;
  // SeaBIOS reads here how it translates each IDE disk's cylinders, heads and sectors. Without
  // translation (0), INT 13h could address only the first 504 MiB of a disk in this way.
  constexpr uint8_t kTranslateByLba = 1;
  uint8_t types = 0;
  uint8_t translations = 0;
  for (unsigned i = 0; i < disks.size(); ++i) {
    if (!disks[i]) continue;
    translations |= static_cast<uint8_t>(kTranslateByLba << (2 * i));
    if (i >= 2) continue;  // the AT has fields for two drives only
    types |= static_cast<uint8_t>(kExtendedType << (i == 0 ? 4 : 0));
    add_disk(cmos, i, *disks[i]);
  }
  cmos.number(kDiskData, types);
  cmos.number(kBiosDiskTransFlag, translations);
}

}  // namespace

std::vector<std::pair<uint8_t, uint8_t>> make_cmos(const CmosPlatform& platform) {
  constexpr uint8_t kCoprocessor = 1 << 1;
  constexpr uint8_t kMouse = 1 << 2;
  Cmos cmos;
  cmos.number(kCmosShutdownStatus, 0);
  cmos.number(kFloppyDriveType, 0);
  add_disks(cmos, platform.ide_disks);
  cmos.number(kEquipmentInfo, kCoprocessor | (platform.has_mouse ? kMouse : 0));
  const uint64_t low = platform.low_memory_bytes;
  cmos.number(kBaseMemory, std::min(low, kBaseMemoryBytes) / kKiB, 2);
  cmos.number(kOldExtendedMemory, above(low, kMiB) / kKiB, 2);
  cmos.number(kExtMem, above(low, kMiB) / kKiB, 2);
  cmos.number(kExtMem2, above(low, 16 * kMiB) / (64 * kKiB), 2);
  cmos.number(kHighMem, platform.high_memory_bytes / (64 * kKiB), 3);
  const auto order = [&](size_t i) { return static_cast<uint64_t>(platform.boot_order[i]); };
  cmos.number(kBiosBootFlag2, order(0) | order(1) << 4);
  cmos.number(kBiosBootFlag1, order(2) << 4);
  cmos.number(kBiosSmpCount, std::max(platform.cpus, 1u) - 1);
  return std::move(cmos).take();
}

}  // namespace wick::boot
