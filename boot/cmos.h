// The bytes of CMOS memory in which a PC's firmware finds the size of the memory, the boot order
// and the drives.
//
// Thread rule: any thread; a pure function of its argument.
// Specification: SeaBIOS, src/hw/rtc.h (indexes), src/fw/paravirt.c, src/boot.c and src/disk.c
// (use); QEMU, hw/i386/pc.c, pc_cmos_init(), writes the same bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace wick::boot {

struct CmosPlatform {
  enum class BootDevice : uint8_t { kNone = 0, kFloppy = 1, kDisk = 2, kCd = 3, kNetwork = 4 };
  // The geometry that an IDE disk has in its IDENTIFY data.
  struct IdeDisk {
    uint16_t cylinders = 0;
    uint8_t heads = 0;
    uint8_t sectors = 0;  // sectors per track
  };

  uint64_t low_memory_bytes = 0;   // size of the RAM that begins at address 0
  uint64_t high_memory_bytes = 0;  // size of the RAM that begins at 4 GiB
  uint32_t cpus = 1;
  bool has_mouse = false;
  // The order of the devices that the file "bootorder" (boot/bios_files.h) does not name.
  std::array<BootDevice, 3> boot_order = {BootDevice::kDisk, BootDevice::kCd, BootDevice::kNetwork};
  // The disks of the primary master and slave and the secondary master and slave. CD-ROM drives are
  // not listed.
  std::array<std::optional<IdeDisk>, 4> ide_disks = {};
};

// The index of the byte that tells firmware why the CPU was reset, and its value for a wake from S3
// (SeaBIOS, src/resume.c).
constexpr uint8_t kCmosShutdownStatus = 0x0f;
constexpr uint8_t kCmosWakeFromS3 = 0xfe;

// Returns pairs of an index and a value.
std::vector<std::pair<uint8_t, uint8_t>> make_cmos(const CmosPlatform& platform);

}  // namespace wick::boot
