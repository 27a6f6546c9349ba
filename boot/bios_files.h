// The small files by which firmware is configured; it reads them by fw_cfg. boot/acpi.h and
// boot/smbios.h make the files of the tables.
//
// Thread rule: any thread; pure functions of their arguments.
// Specification: SeaBIOS, docs/Runtime_config.md and the source files that are named below. edk2
// reads "bootorder", "etc/boot-menu-wait", "etc/e820" and "etc/system-states", too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/guest_memory.h"
#include "boot/memory_map.h"

namespace wick::boot {

struct BiosFile {
  std::string name = {};
  std::vector<std::byte> content = {};
};

struct BiosSettings {
  // Devices in the order in which they are tried, as paths (see below). Devices that are not named
  // come after these, in the order of the CMOS memory.
  std::vector<std::string> boot_order = {};
  // How long the user may ask for a menu of boot devices by Escape; absent: there is no menu.
  std::optional<uint16_t> boot_menu_wait_ms = {};
  // The port of a serial line that shows and controls what the screen and the keyboard do; 0: none.
  uint16_t serial_console_port = 0;
  // SLP_TYP values, as in AcpiPlatform.
  std::optional<uint8_t> sleep_type_s3 = {};
  std::optional<uint8_t> sleep_type_s4 = {};
  uint8_t sleep_type_s5 = 0;
};

// "bootorder" (if there is an order), "etc/show-boot-menu", "etc/boot-menu-wait" (if there is a
// menu), "etc/boot-fail-wait", "etc/sercon-port" (if there is a port) and "etc/system-states".
std::vector<BiosFile> make_bios_files(const BiosSettings& settings);

// Open Firmware paths of boot devices on PCI bus 0, as firmware compares them (SeaBIOS,
// src/boot.c, build_pci_path() and bootprio_find_*(); edk2,
// OvmfPkg/Library/QemuBootOrderLib).
std::string virtio_disk_path(uint8_t slot);
// Channel 0 or 1, unit 0 (master) or 1 (slave); a disk or a CD-ROM drive.
std::string ide_drive_path(uint8_t slot, uint8_t function, unsigned channel, unsigned unit);

// "etc/e820": the guest's RAM, each region as a whole (the legacy areas below 1 MiB are the
// firmware's to reserve), and `reserved`: what nobody may use and firmware does not know. SeaBIOS
// reserves the last 256 KiB below 4 GiB itself (src/fw/paravirt.c, qemu_early_e820()).
BiosFile make_e820_file(const GuestMemory& memory, std::span<const MemoryMapEntry> reserved);

}  // namespace wick::boot
