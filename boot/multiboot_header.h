// The Multiboot header, by which a kernel file says that a Multiboot loader can start it.
//
// Thread rule: any thread.
//
// Specification: Multiboot Specification 0.6.96, 3.1 "OS image format".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace wick::boot {

// Names are those of 3.1.1, without `mh_`.
struct MultibootHeader {
  static constexpr uint32_t kMagic = 0x1bad'b002;
  static constexpr size_t kSearchBytes = 8192;  // 3.1: the header lies within these
  // Bits of `flags`. The lower 16 are requirements, the upper 16 are offers.
  static constexpr uint32_t kPageAlign = 1 << 0;     // modules begin at a page
  static constexpr uint32_t kMemoryInfo = 1 << 1;    // mem_* must be there
  static constexpr uint32_t kVideoMode = 1 << 2;     // a mode must be set
  static constexpr uint32_t kRequirements = 0xffff;  // all of them
  static constexpr uint32_t kAddresses = 1 << 16;    // the addresses below are valid

  uint32_t flags = 0;
  uint32_t header_addr = 0;
  uint32_t load_addr = 0;
  uint32_t load_end_addr = 0;  // 0: the end of the file
  uint32_t bss_end_addr = 0;   // 0: there is no bss
  uint32_t entry_addr = 0;
  uint64_t file_offset = 0;  // of the header in the file

  bool operator==(const MultibootHeader&) const = default;
};

// Finds the header in the first kSearchBytes of a file, or in all of a smaller one.
std::optional<MultibootHeader> find_multiboot_header(std::span<const std::byte> start);

}  // namespace wick::boot
