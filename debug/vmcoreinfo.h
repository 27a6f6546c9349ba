// The vmcoreinfo note: an ELF note in the guest's memory with properties of the guest's kernel.
// crash and drgn need it to find the kernel's structures. The guest writes the note's address to
// the fw_cfg file etc/vmcoreinfo (devices/fw_cfg.h).
//
// Thread rule: any thread, while the guest does not run. The content of the guest's memory is not
// trusted.
// Specification: QEMU, docs/specs/vmcoreinfo.rst; the note's format: ELF-64 Object File Format
// 1.5, "Note Section"; its content: Linux, Documentation/admin-guide/kdump/vmcoreinfo.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/guest_memory.h"
#include "base/result.h"

namespace wick::debug {

constexpr uint32_t kMaxGuestNoteBytes = 1 << 20;

// A copy of the note: a header, and then the name and the description, each padded to a multiple of
// four bytes.
class GuestNote {
 public:
  // Reads the note to which `written`, the content of etc/vmcoreinfo, points. Returns nullopt if
  // the guest has given no note; fails if the note is malformed or not in RAM.
  static Result<std::optional<GuestNote>> read(const GuestMemory& memory,
                                               std::span<const std::byte> written);

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view name() const;  // without the terminating NUL
  std::string_view description() const;
  size_t description_offset() const { return description_offset_; }

  // Returns VALUE of the line KEY=VALUE in the description. nullopt if there is no such line, or if
  // the note's name is not VMCOREINFO.
  std::optional<std::string_view> value(std::string_view key) const;
  // Returns Linux's phys_base: by how much the kernel's physical addresses exceed those for which
  // it was linked. nullopt if the note does not tell it.
  std::optional<int64_t> phys_base() const;

 private:
  GuestNote() = default;
  std::vector<std::byte> bytes_;
  size_t name_bytes_ = 0;
  size_t description_offset_ = 0;
  size_t description_bytes_ = 0;
};

}  // namespace wick::debug
