// Firmware images: SeaBIOS, the BIOS of its VGA card, and OVMF, as distributions install them.
//
// Thread rule: any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace wick::boot {

// Where distributions install the image of SeaBIOS with 256 KiB, and the BIOS of the standard VGA.
Result<std::string> find_bios();
Result<std::string> find_vga_bios();

// OVMF in two files: the code, and the variables of a new machine, which lie below it.
struct UefiFiles {
  std::string code;
  std::string variables;
};
Result<UefiFiles> find_uefi();

struct Firmware {
  std::string path;
  std::vector<std::byte> image;  // ends at the reset vector
  bool uefi = false;             // a firmware volume of edk2, and no BIOS
};

// Reads the image. Fails unless its size is a multiple of 4 KiB, at least 64 KiB and at most
// `max_bytes`.
Result<Firmware> open_firmware(const std::string& path, size_t max_bytes);

// Reads an option ROM (PCI Firmware Specification 3.3, 5.2.1), the BIOS of a card. Fails unless it
// has the signature of one.
Result<std::vector<std::byte>> read_option_rom(const std::string& path);

// True if the BIOS would start the code in this first sector of a disk. False for a sector that has
// only a partition table, or the file system of a volume that cannot boot.
bool is_boot_sector(std::span<const std::byte> sector);

}  // namespace wick::boot
