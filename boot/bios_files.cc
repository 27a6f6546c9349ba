#include "boot/bios_files.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "base/bytes.h"

namespace wick::boot {

namespace {

// Returns a file that holds a number. SeaBIOS reads up to eight bytes (src/romfile.c,
// romfile_loadint()). The numbers here have the sizes that QEMU gives them; edk2 requires that size
// for "etc/boot-menu-wait".
template <typename T>
BiosFile number_file(std::string_view name, T value) {
  const auto bytes = as_bytes(&value, sizeof(value));
  return {std::string(name), {bytes.begin(), bytes.end()}};
}

// Returns the file "bootorder" (SeaBIOS, src/boot.c, loadBootOrder()): a path on each line, and a
// NUL at the end.
BiosFile boot_order_file(const BiosSettings& settings) {
  const std::string text = fmt::format("{}", fmt::join(settings.boot_order, "\n"));
  const auto bytes = as_bytes(text.c_str(), text.size() + 1);
  return {"bootorder", {bytes.begin(), bytes.end()}};
}

// Returns the file "etc/system-states", with a byte for each of S0 to S5 (QEMU, hw/acpi/core.c,
// acpi_pm1_cnt_init()).
BiosFile system_states_file(const BiosSettings& settings) {
  constexpr uint8_t kSupported = 0x80;
  std::array<uint8_t, 6> states = {kSupported};
  if (settings.sleep_type_s3) states[3] = kSupported | *settings.sleep_type_s3;
  if (settings.sleep_type_s4) states[4] = kSupported | *settings.sleep_type_s4;
  states[5] = kSupported | settings.sleep_type_s5;
  const auto bytes = as_bytes(states.data(), states.size());
  return {"etc/system-states", {bytes.begin(), bytes.end()}};
}

}  // namespace

std::vector<BiosFile> make_bios_files(const BiosSettings& settings) {
  std::vector<BiosFile> files;
  if (!settings.boot_order.empty()) files.push_back(boot_order_file(settings));
  // SeaBIOS also reads this value from the item FW_CFG_BOOT_MENU, but it looks for the file first.
  files.push_back(number_file<uint16_t>("etc/show-boot-menu", settings.boot_menu_wait_ms ? 1 : 0));
  if (settings.boot_menu_wait_ms)
    files.push_back(number_file("etc/boot-menu-wait", *settings.boot_menu_wait_ms));
  // The milliseconds after which firmware tries again if no device boots; this value means never.
  files.push_back(number_file("etc/boot-fail-wait", UINT32_MAX));
  if (settings.serial_console_port != 0)
    files.push_back(number_file("etc/sercon-port", settings.serial_console_port));
  files.push_back(system_states_file(settings));
  return files;
}

std::string virtio_disk_path(uint8_t slot) {
  return fmt::format("/pci@i0cf8/scsi@{:x}/disk@0,0", slot);
}

std::string ide_drive_path(uint8_t slot, uint8_t function, unsigned channel, unsigned unit) {
  const std::string address =
      function == 0 ? fmt::format("{:x}", slot) : fmt::format("{:x},{:x}", slot, function);
  return fmt::format("/pci@i0cf8/ide@{}/drive@{:x}/disk@{:x}", address, channel, unit);
}

BiosFile make_e820_file(const GuestMemory& memory, std::span<const MemoryMapEntry> reserved) {
  struct [[gnu::packed]] Entry {
    uint64_t start = 0;
    uint64_t size_bytes = 0;
    uint32_t type = 0;
  };
  static_assert(sizeof(Entry) == 20);
  BiosFile file{.name = "etc/e820"};
  const auto add = [&](uint64_t start, uint64_t size_bytes, MemoryMapEntry::Type type) {
    const Entry entry{start, size_bytes, static_cast<uint32_t>(type)};
    const auto bytes = as_bytes(&entry, sizeof(entry));
    file.content.insert(file.content.end(), bytes.begin(), bytes.end());
  };
  for (const GuestMemory::Region& region : memory.regions())
    add(region.start.value, region.size_bytes, MemoryMapEntry::Type::kUsable);
  for (const MemoryMapEntry& entry : reserved) add(entry.start, entry.size_bytes, entry.type);
  return file;
}

}  // namespace wick::boot
