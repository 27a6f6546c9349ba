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

// The header's fields, with the names of 3.1.1 without `mh_`.
struct MultibootHeader {
  static constexpr uint32_t kMagic = 0x1bad'b002;
  static constexpr size_t kSearchBytes = 8192;  // the header lies in the file's first 8 KiB (3.1)
  // Bits of `flags`. Bits 0 to 15 are requirements, which a loader must fulfil or refuse the
  // kernel.
  static constexpr uint32_t kPageAlign = 1 << 0;     // modules must begin at page boundaries
  static constexpr uint32_t kMemoryInfo = 1 << 1;    // the loader must set mem_lower and mem_upper
  static constexpr uint32_t kVideoMode = 1 << 2;     // the loader must set a video mode
  static constexpr uint32_t kRequirements = 0xffff;  // the mask of all requirements
  static constexpr uint32_t kAddresses = 1 << 16;    // the addresses below are valid

  uint32_t flags = 0;
  uint32_t header_addr = 0;
  uint32_t load_addr = 0;
  uint32_t load_end_addr = 0;  // 0: the end of the file
  uint32_t bss_end_addr = 0;   // 0: there is no bss
  uint32_t entry_addr = 0;
  uint64_t file_offset = 0;  // offset of the header in the file

  bool operator==(const MultibootHeader&) const = default;
};

// Finds the header in the first kSearchBytes of a file. `start` has at least that many bytes, or
// the whole file if that is smaller.
std::optional<MultibootHeader> find_multiboot_header(std::span<const std::byte> start);

}  // namespace wick::boot
