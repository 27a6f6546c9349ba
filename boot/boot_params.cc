#include "boot/boot_params.h"

#include <algorithm>
#include <cstring>

#include "boot/memory_map.h"

namespace wick::boot {

Result<void> write_boot_params(const GuestMemory& memory, std::span<const std::byte> header,
                               GuestMemory::Range initrd, GuestAddress rsdp) {
  ::boot_params params{};
  std::memcpy(reinterpret_cast<std::byte*>(&params) + kSetupHeader, header.data(),
              std::min(header.size(), kSetupHeaderLimit - kSetupHeader));
  params.ext_ramdisk_image = static_cast<uint32_t>(initrd.start.value >> 32);
  params.ext_ramdisk_size = static_cast<uint32_t>(initrd.size_bytes >> 32);
  params.acpi_rsdp_addr = rsdp.value;

  const auto map = memory_map(memory);
  if (map.size() > E820_MAX_ENTRIES_ZEROPAGE)
    return fail("guest memory: {} ranges do not fit into the zero page", map.size());
  for (const MemoryMapEntry& entry : map) {
    params.e820_table[params.e820_entries].addr = entry.start;
    params.e820_table[params.e820_entries].size = entry.size_bytes;
    params.e820_table[params.e820_entries].type = static_cast<uint32_t>(entry.type);
    ++params.e820_entries;
  }
  return memory.write(kBootInfo, params);
}

}  // namespace wick::boot
