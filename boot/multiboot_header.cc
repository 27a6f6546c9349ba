#include "boot/multiboot_header.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"

namespace wick::boot {

std::optional<MultibootHeader> find_multiboot_header(std::span<const std::byte> start) {
  // The header (3.1.1) has magic, flags and checksum, and with kAddresses five more fields. The
  // fields about the video mode, which follow, are not used.
  constexpr size_t kMinBytes = 3 * sizeof(uint32_t);
  constexpr size_t kAddressesBytes = 5 * sizeof(uint32_t);
  start = start.first(std::min(start.size(), MultibootHeader::kSearchBytes));
  for (size_t offset = 0; offset + kMinBytes <= start.size(); offset += sizeof(uint32_t)) {
    const auto [magic, flags, checksum] = load_le<std::array<uint32_t, 3>>(start.subspan(offset));
    if (magic != MultibootHeader::kMagic || magic + flags + checksum != 0) continue;
    MultibootHeader header{.flags = flags, .file_offset = offset};
    if ((flags & MultibootHeader::kAddresses) == 0) return header;
    const auto fields = start.subspan(offset + kMinBytes);
    if (fields.size() < kAddressesBytes) return std::nullopt;
    const auto addresses = load_le<std::array<uint32_t, 5>>(fields);
    header.header_addr = addresses[0];
    header.load_addr = addresses[1];
    header.load_end_addr = addresses[2];
    header.bss_end_addr = addresses[3];
    header.entry_addr = addresses[4];
    return header;
  }
  return std::nullopt;
}

}  // namespace wick::boot
