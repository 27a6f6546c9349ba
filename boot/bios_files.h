// The small files that configure firmware, which reads them through fw_cfg. boot/acpi.h and
// boot/smbios.h make the files with tables.
//
// Thread rule: any thread; pure functions of their arguments.
// Specification: SeaBIOS, docs/Runtime_config.md and the source files named below. edk2 also reads
// "bootorder", "etc/boot-menu-wait", "etc/e820" and "etc/system-states".
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
  // The paths of the boot devices (see the functions below), in the order in which firmware tries
  // them. Devices that are not in this list come last, in the order that CMOS memory gives
  // (boot/cmos.h).
  std::vector<std::string> boot_order = {};
  // How long firmware waits for Escape, with which the user opens the menu of boot devices;
  // nullopt: there is no menu.
  std::optional<uint16_t> boot_menu_wait_ms = {};
  // The first port of the serial line that mirrors the screen and the keyboard; 0: there is none.
  uint16_t serial_console_port = 0;
  // SLP_TYP values of the sleeping states, as in AcpiPlatform.
  std::optional<uint8_t> sleep_type_s3 = {};
  std::optional<uint8_t> sleep_type_s4 = {};
  uint8_t sleep_type_s5 = 0;
};

// Returns the files "bootorder" (if there is an order), "etc/show-boot-menu", "etc/boot-menu-wait"
// (if there is a menu), "etc/boot-fail-wait", "etc/sercon-port" (if there is a port) and
// "etc/system-states".
std::vector<BiosFile> make_bios_files(const BiosSettings& settings);

// These functions return the Open Firmware paths of boot devices on PCI bus 0, in the form that
// firmware expects in "bootorder" (SeaBIOS, src/boot.c, build_pci_path() and bootprio_find_*();
// edk2, OvmfPkg/Library/QemuBootOrderLib).
std::string virtio_disk_path(uint8_t slot);
// Returns the path of a disk or a CD-ROM drive. `channel` is 0 or 1; `unit` is 0 (master) or 1
// (slave).
std::string ide_drive_path(uint8_t slot, uint8_t function, unsigned channel, unsigned unit);

// Returns "etc/e820", the memory map. It has each region of RAM as a whole, because firmware itself
// reserves the legacy areas below 1 MiB and SeaBIOS the last 256 KiB below 4 GiB
// (src/fw/paravirt.c, qemu_early_e820()). `reserved` are ranges that firmware does not know and
// nobody may use.
BiosFile make_e820_file(const GuestMemory& memory, std::span<const MemoryMapEntry> reserved);

}  // namespace wick::boot
