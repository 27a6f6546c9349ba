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

// These functions return the paths of SeaBIOS's 256 KiB image and of the BIOS of the standard VGA
// card, as a distribution has installed them.
Result<std::string> find_bios();
Result<std::string> find_vga_bios();

// OVMF in two files: the code, and the initial variables of a machine. In guest memory the
// variables lie directly below the code.
struct UefiFiles {
  std::string code;
  std::string variables;
};
Result<UefiFiles> find_uefi();

struct Firmware {
  std::string path;
  std::vector<std::byte> image;  // ends at the reset vector
  bool uefi = false;             // true: the image is a firmware volume of edk2, not a BIOS
};

// Reads the image at `path`. Fails unless its size is a multiple of 4 KiB, at least 64 KiB and at
// most `max_bytes`.
Result<Firmware> open_firmware(const std::string& path, size_t max_bytes);

// Reads an option ROM, the BIOS of a card (PCI Firmware Specification 3.3, 5.2.1). Fails unless the
// file has the signature of an option ROM.
Result<std::vector<std::byte>> read_option_rom(const std::string& path);

// Returns true if the BIOS would start the code in `sector`, the first sector of a disk. Returns
// false for a sector that has only a partition table, or the file system of a volume that cannot
// boot.
bool is_boot_sector(std::span<const std::byte> sector);

}  // namespace wick::boot
